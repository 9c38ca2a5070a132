"""`python -m tests.docs`: write the tables of all pages anew; `--check` only says which are stale."""

from __future__ import annotations

import sys

from edge_agent.files import write_atomically
from tests.docs import house, tables
from tests.docs.pages import PAIRS, REPOSITORY, path


def main() -> int:
    """Write what is stale."""
    stale = []
    for language in ("en", "zh"):
        wanted = {path(pair, language): tables.fresh(pair, language) for pair in PAIRS}
        wanted[house.path(language)] = house.svg(language)
        stale += [
            (file, text)
            for file, text in wanted.items()
            if not file.exists() or file.read_text(encoding="utf-8") != text
        ]
    for file, text in stale:
        print(file.relative_to(REPOSITORY))
        if "--check" not in sys.argv[1:]:
            write_atomically(file, text.encode())
    return 1 if stale and "--check" in sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
