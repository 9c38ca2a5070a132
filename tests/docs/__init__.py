"""The documents against the program: tables written by it, commands run, messages provoked.

`python -m tests.docs` rewrites the tables; the tests fail while one is stale. What a change to a page needs:

- a verb, profile, topic, command or field: nothing in English; its Chinese in words.toml
- a figure: a line in figures.py that names its cells in RESULTS.md
- a command line in an `sh` block: nothing when it ends by itself; else a line in `HOW` of test_commands.py
  that says which test runs it, or why none can
- a message: an entry in test_troubleshooting.py that provokes it
- a page: its name in `PAIRS` (both languages) or `OTHERS` of pages.py
"""
