"""The committed recordings are what their manifest says, and free to pass on."""

import hashlib
import json
from pathlib import Path

SPEECH = Path(__file__).resolve().parents[2] / "speech"


def rows() -> list[dict[str, object]]:
    """The manifest's lines."""
    return [json.loads(line) for line in (SPEECH / "manifest.jsonl").read_text("utf-8").splitlines()]


def test_every_recording_is_the_one_described() -> None:
    """Size and digest of each file agree with the manifest, and no file is left over."""
    described = {str(row["path"]): (row["bytes"], row["sha256"]) for row in rows()}
    found = {
        str(path.relative_to(SPEECH)): (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in (SPEECH / "audio").rglob("*")
        if path.is_file()
    }
    assert found == described


def test_licences_allow_passing_on() -> None:
    """No clip is share-alike, non-commercial or without derivatives, and each names whom to credit."""
    for row in rows():
        licence = str(row["licence"])
        assert not any(term in licence for term in ("SA", "NC", "ND", "GPL"))
        assert row["attribution"] or licence.startswith("CC0")


def test_set_stays_small() -> None:
    """A checkout stays light: 3 MB of sound in all."""
    assert sum(int(str(row["bytes"])) for row in rows()) <= 3_000_000
