"""Reading the documents: which there are, their headings, code blocks and command lines."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

REPOSITORY = Path(__file__).resolve().parents[2]
Language: TypeAlias = Literal["en", "zh"]

PAIRS = (
    "README",
    "provisioning/docs/contract",
    "provisioning/docs/tuning",
    "provisioning/docs/troubleshooting",
    "provisioning/docs/threat-model",
    "provisioning/examples/README",
)
"""Pages that there are in both languages: NAME.md and NAME.zh-TW.md."""
OTHERS = (
    "profiles/README.md",
    "provisioning/mosquitto/README.md",
    "provisioning/fleet/README.md",
    "provisioning/enroll/README.md",
    "provisioning/ansible/README.md",
)
"""Pages in English only, whose commands are looked at too."""
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"<!-- ([a-z-]+): begin -->\n(.*?)<!-- \1: end -->", re.DOTALL)


def path(pair: str, language: Language) -> Path:
    """The file of a page in one language."""
    return REPOSITORY / f"{pair}{'' if language == 'en' else '.zh-TW'}.md"


def all_pages() -> list[Path]:
    """Every page with commands."""
    both: tuple[Language, ...] = ("en", "zh")
    return [path(pair, language) for pair in PAIRS for language in both] + [
        REPOSITORY / name for name in OTHERS
    ]


@dataclass(frozen=True)
class Fence:
    """A code block."""

    kind: str
    text: str


def fences(page: Path, kind: str = "") -> list[Fence]:
    """The code blocks of a page, or those of one kind ("sh", "toml", "json")."""
    found = [Fence(*match.groups()) for match in _FENCE.finditer(page.read_text(encoding="utf-8"))]
    return [fence for fence in found if not kind or fence.kind == kind]


def headings(page: Path) -> list[str]:
    """The signs of its headings ("##"), in order, those in code left out."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [line.split(" ", 1)[0] for line in text.splitlines() if re.match(r"#+ ", line)]


def blocks(page: Path) -> dict[str, str]:
    """What stands between marks of generated text, by name."""
    return dict(_BLOCK.findall(page.read_text(encoding="utf-8")))


def commands(page: Path) -> list[str]:
    """The command lines of its `sh` blocks: continuations joined, comments and blank lines left out."""
    found: list[str] = []
    for fence in fences(page, "sh"):
        pending = ""
        for part in fence.text.splitlines():
            line = f"{pending} {part.strip()}" if pending else part.rstrip()
            pending = ""
            if line.endswith("\\"):
                pending = line[:-1].rstrip()
            elif _open_quote(line):
                pending = line
            elif (bare := _without_comment(line).strip()) and not bare.startswith("#"):
                found.append(bare)
    return found


def _open_quote(line: str) -> bool:
    """A string that goes on in the next line."""
    try:
        shlex.split(line, comments=True)
    except ValueError:
        return True
    return False


def _without_comment(line: str) -> str:
    """The line up to a comment: a hash after two blanks or more, as these pages write it."""
    return re.split(r"\s{2,}#|\s# ", line)[0]
