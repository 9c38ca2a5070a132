"""The fleet page in a real browser, against a real broker and a real agent."""
