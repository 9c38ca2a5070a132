"""The documents against the program: tables written by it, commands run, messages provoked.

`python -m tests.docs` rewrites the tables; the tests fail while one is stale.
"""
