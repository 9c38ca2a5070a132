"""The fleet page: its files and their server."""
