"""Entries reach the journal as fields, whatever is in them."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.journal import Journal, encode, reads_stderr
from edge_agent.log import JournalHandler


def decoded(entry: bytes) -> dict[str, str]:
    """What journald reads from a datagram."""
    fields = {}
    while entry:
        line, _, entry = entry.partition(b"\n")
        name, separator, value = line.partition(b"=")
        if not separator:
            (length,) = struct.unpack("<Q", entry[:8])
            value, entry = entry[8 : 8 + length], entry[9 + length :]
        fields[name.decode()] = value.decode()
    return fields


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True), st.text(max_size=200)))
def test_any_text_survives(fields: dict[str, str]) -> None:
    """Newlines, equals signs and every alphabet come out as they went in."""
    sound = {name: value.encode("utf-8", "replace").decode() for name, value in fields.items()}
    assert decoded(encode(fields)) == sound


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journal"))
        listening.settimeout(2)
        yield listening


def test_a_record_becomes_an_entry_with_its_facts_and_without_its_secrets(
    journal: socket.socket, tmp_path: Path
) -> None:
    """Extra values are fields of their own; passwords are not told; the text is readable by itself."""
    handler = JournalHandler(Journal(tmp_path / "journal"))
    record = logging.getLogger("edge_agent.x").makeRecord(
        "edge_agent.x", logging.WARNING, "f", 1, "final", (), None, extra={"seq": 17, "password": "hunter2"}
    )
    handler.emit(record)
    entry = decoded(journal.recv(65536))
    assert entry["MESSAGE"] == "final seq=17 password=[redacted]"
    assert (entry["PRIORITY"], entry["EDGE_AGENT_SEQ"], entry["EDGE_AGENT_EVENT"]) == ("4", "17", "final")
    assert "hunter2" not in str(entry)


def test_a_journal_that_goes_away_costs_no_entry(
    journal: socket.socket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line is on stderr instead, and nothing is raised into the caller."""
    handler = JournalHandler(Journal(tmp_path / "journal"))
    journal.close()
    handler.emit(logging.getLogger("x").makeRecord("x", logging.INFO, "f", 1, "heard", (), None))
    assert capsys.readouterr().err == "heard\n"


@pytest.mark.parametrize("value", ["", "8", "a:b", "1:2:3"])
def test_without_a_journal_stream_stderr_is_no_journal(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing or odd variable means no."""
    monkeypatch.setenv("JOURNAL_STREAM", value)
    assert not reads_stderr()


def test_another_stderr_than_the_service_managers_is_no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child whose stderr was redirected inherits the variable, and must not believe it."""
    monkeypatch.setenv("JOURNAL_STREAM", f"{os.fstat(2).st_dev}:{os.fstat(2).st_ino + 1}")
    assert not reads_stderr()
