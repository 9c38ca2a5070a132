"""Where the real speech for tests lives, and what is said in it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Clip:
    """One recording with its reference."""

    id: str
    path: Path
    set: str
    language: str
    duration_s: float
    text: str
    reference: str
    """verbatim, corrected and grammar references are fit for error rates; the others are not."""
    fields: dict[str, object]


def speech_dir() -> Path:
    """The corpus: EDGE_AGENT_SPEECH, else a checkout beside this one, else the subset in this repository."""
    named = os.environ.get("EDGE_AGENT_SPEECH")
    places = (
        [Path(named)] if named else [REPOSITORY.parent / "shared" / "speech", REPOSITORY / "tests/speech"]
    )
    for place in places:
        if (place / "manifest.jsonl").is_file():
            return place
    pytest.skip(f"no speech corpus: {', '.join(map(str, places))} hold no manifest.jsonl")


def clips(**wanted: object) -> list[Clip]:
    """Clips whose manifest fields equal `wanted` (for example set="en_read_kathleen")."""
    root = speech_dir()
    found = []
    for line in (root / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        fields = json.loads(line)
        if all(fields.get(key) == value for key, value in wanted.items()):
            found.append(
                Clip(
                    id=fields["id"],
                    path=root / fields["path"],
                    set=fields["set"],
                    language=fields["language"],
                    duration_s=fields["duration_s"],
                    text=fields.get("text") or "",
                    reference=fields.get("reference", "none"),
                    fields=fields,
                )
            )
    return found
