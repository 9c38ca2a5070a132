"""Logging: one line per event on stderr, for people on a terminal, as JSON elsewhere; under systemd straight
into the journal, each fact a field (`journalctl -u edge-agent EDGE_AGENT_SEQ=17`).

Spoken words are never logged above DEBUG; the fields named in `_SECRET` are never logged at all.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from contextlib import suppress

from edge_agent.journal import Journal, reads_stderr

_SECRET = frozenset({"password", "passwd", "secret", "token", "key"})
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    given = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    return {key: "[redacted]" if key in _SECRET else value for key, value in given.items()}


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class PlainLines(logging.Formatter):
    """Time, level, message, then key=value."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [time.strftime("%H:%M:%S", time.localtime(record.created)), record.levelname.lower()]
        parts.append(record.getMessage())
        parts += [f"{key}={value}" for key, value in _fields(record).items()]
        text = " ".join(parts)
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class PlainMessage(logging.Formatter):
    """Message, then key=value."""

    def format(self, record: logging.LogRecord) -> str:
        parts = [record.getMessage(), *(f"{key}={value}" for key, value in _fields(record).items())]
        if record.exc_info:
            parts.append("\n" + self.formatException(record.exc_info))
        return " ".join(parts)


class JournalHandler(logging.Handler):
    """Entries with fields; what the journal does not take goes to stderr.

    Raises:
        OSError: there is no journal.
    """

    _PRIORITY = ((logging.ERROR, "3"), (logging.WARNING, "4"), (logging.INFO, "6"), (0, "7"))

    def __init__(self, journal: Journal | None = None) -> None:
        super().__init__()
        self._journal = Journal() if journal is None else journal
        self.setFormatter(PlainMessage())

    def emit(self, record: logging.LogRecord) -> None:
        entry = {
            "MESSAGE": self.format(record),
            "PRIORITY": next(number for level, number in self._PRIORITY if record.levelno >= level),
            "SYSLOG_IDENTIFIER": "edge-agent",
            "EDGE_AGENT_LOGGER": record.name,
            "EDGE_AGENT_EVENT": str(record.msg),
            "EDGE_AGENT_THREAD": record.threadName or "",
        }
        for key, value in _fields(record).items():
            entry["EDGE_AGENT_" + re.sub(r"[^A-Z0-9_]", "_", key.upper())] = str(value)
        try:
            self._journal.send(entry)
        except OSError:
            sys.stderr.write(entry["MESSAGE"] + "\n")


def set_up(*, verbose: int = 0, quiet: bool = False, json_lines: bool | None = None) -> None:
    """Configure the root logger once; JSON unless stderr is a terminal."""
    level = logging.ERROR if quiet else logging.DEBUG if verbose > 1 else logging.INFO
    as_json = not sys.stderr.isatty() if json_lines is None else json_lines
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else PlainLines())
    if as_json and reads_stderr():
        with suppress(OSError):
            handler = JournalHandler()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
