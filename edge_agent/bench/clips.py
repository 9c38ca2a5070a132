"""Recordings to measure with, and what is said in them where a manifest tells.

A manifest is a file `manifest.jsonl` in the folder of the recordings or up to three folders above: one JSON
object a line with `path` (relative to the manifest), `text`, `reference`, `language` and `set`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.audio.files import read_audio
from edge_agent.bench.score import FIT_REFERENCES
from edge_agent.errors import UsageError
from edge_agent.types import SAMPLE_RATE_HZ, Value

_FOLDERS_ABOVE = 3
_NO_LANGUAGE = "und"  # BCP-47 for recordings without speech


class Entry(msgspec.Struct, frozen=True):
    """One line of a manifest; what else the line holds is not ours."""

    path: str
    text: str | None = None
    reference: str = "verbatim"
    language: str = ""
    set: str = ""


class Clip(Value, frozen=True):
    """One recording, decoded."""

    file: str
    pcm: Any
    """PcmFloat"""
    language: str
    set: str
    reference: str | None
    """What is said; None where it is not known well enough for error rates."""

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return len(self.pcm) / SAMPLE_RATE_HZ


def load_clips(paths: Iterable[Path], *, language: str, manifest: Path | None = None) -> list[Clip]:
    """Read recordings and what is known of them.

    Args:
        paths: audio files, or folders whose manifest names them.
        language: overrides the manifest; empty: the manifest's, else "en".
        manifest: a manifest to use instead of the ones found beside the recordings.

    Raises:
        AudioFileError: a recording cannot be read.
        UsageError: a manifest cannot be read, or a folder has none.
    """
    clips = []
    for path in _expanded(paths):
        entry = _entry(path, manifest)
        known = entry is not None and entry.reference in FIT_REFERENCES
        spoken = entry.language if entry and entry.language != _NO_LANGUAGE else ""
        clips.append(
            Clip(
                file=str(path),
                pcm=read_audio(path),
                language=language or spoken or "en",
                set=(entry.set if entry else "") or path.parent.name,
                reference=entry.text if entry and known else None,
            )
        )
    return clips


def _expanded(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        if not (path / "manifest.jsonl").is_file():
            raise UsageError(f"{path} is a folder without manifest.jsonl", remedy="name the recordings in it")
        yield from (Path(name) for name in _manifest(path / "manifest.jsonl"))


def _entry(path: Path, manifest: Path | None) -> Entry | None:
    if manifest is not None:
        return _find(_manifest(manifest), path)
    for folder in path.resolve().parents[: _FOLDERS_ABOVE + 1]:
        if (folder / "manifest.jsonl").is_file():
            return _manifest(folder / "manifest.jsonl").get(str(path.resolve()))
    return None


def _find(entries: dict[str, Entry], path: Path) -> Entry | None:
    """By place, else by file name: recordings may have been copied elsewhere."""
    by_name = {Path(name).name: entry for name, entry in entries.items()}
    return entries.get(str(path.resolve())) or by_name.get(path.name)


@cache
def _manifest(path: Path) -> dict[str, Entry]:
    """Entries by the full path of their recording."""
    try:
        lines = [line for line in path.read_bytes().splitlines() if line.strip()]
        entries = [msgspec.json.decode(line, type=Entry) for line in lines]
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror or error}", remedy="name another with --references"
        ) from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise UsageError(f"{path} is not a manifest: {error}", remedy="correct that line") from error
    return {str((path.parent / entry.path).resolve()): entry for entry in entries}
