"""Logging: one line per event on stderr, for people on a terminal, as JSON for a journal.

Spoken words are never logged above DEBUG; the fields named in `_SECRET` are never logged at all.
"""

from __future__ import annotations

import json
import logging
import sys
import time

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


def set_up(*, verbose: int = 0, quiet: bool = False, json_lines: bool | None = None) -> None:
    """Configure the root logger once; JSON unless stderr is a terminal."""
    level = logging.ERROR if quiet else logging.DEBUG if verbose > 1 else logging.INFO
    as_json = not sys.stderr.isatty() if json_lines is None else json_lines
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if as_json else PlainLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
