"""Machines as trees of files, each with what it should be detected as. See README.md."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def names() -> list[str]:
    """Every machine: a folder with an expected.toml."""
    return sorted(path.parent.name for path in HERE.glob("*/expected.toml"))


def expected(name: str) -> dict[str, Any]:
    """What the machine should be detected as."""
    return tomllib.loads((HERE / name / "expected.toml").read_text(encoding="utf-8"))


def table() -> str:
    """Every machine with the profile it must get and why: the table in profiles/README.md."""
    lines = ["| machine | profile | why |", "|---|---|---|"]
    for name in names():
        wanted = expected(name)
        profile = f"`{wanted['profile']}`" if wanted["profile"] else "none"
        lines.append(f"| {name} | {profile} | {wanted['why']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
