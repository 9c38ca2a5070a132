"""What `listen` prints: raw lines, JSON lines, plain lines, or a live view on a terminal."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from types import FrameType, TracebackType
from typing import Any, Literal, Self

import msgspec

from edge_agent.mqtt.wire import parse_topic
from edge_agent.screen import terminal as terminals
from edge_agent.screen.keyboard import Keyboard
from edge_agent.screen.painter import Painter
from edge_agent.screen.safe import encodable, harmless_json, safe
from edge_agent.screen.spans import line, written
from edge_agent.screen.terminal import Terminal
from edge_agent.verbs.common import say
from edge_agent.verbs.listen_lines import entry_lines, plain, region, today
from edge_agent.verbs.listen_state import Entry, ListenState

Form = Literal["text", "raw", "json"]

_WHOLE = 1 << 30
_ROUND_S = 0.5
_FRAME_S = 0.1
"""Ten frames a second at most: what a person can follow, and little over SSH."""
_AGES_S = 1.0
_KEPT_ENTRIES = 300
"""Printed again when the terminal has another size."""


class View:
    """One line per message; `invalid` counts payloads that do not fit their schema."""

    def __init__(self, *, prefix: str, form: Form, validate: bool, terminal: Terminal, quiet: bool) -> None:
        self._prefix, self._form, self._validate, self._quiet = prefix, form, validate, quiet
        self._terminal = terminal
        self._state = ListenState(prefix, terminal.charset)
        self.invalid = 0

    def __enter__(self) -> Self:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    @property
    def round_s(self) -> float:
        """How long the caller may wait for messages before the next `tick`."""
        return _ROUND_S

    def message(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        """Show one message."""
        body = _text(payload) if topic.endswith("/up/text") else _decoded(payload)
        if self._validate:
            self._hold_against_schema(topic, body)
        if self._form == "raw":
            self._raw(topic, payload)
        elif self._form == "json":
            self._json(topic, body)
        else:
            now = (today(), _now())
            told = self._state.receive(topic, body, retained=retained, now_s=time.monotonic(), now=now)
            for entry in told:
                self.tell(entry)

    def tell(self, entry: Entry) -> None:
        """Something that stays: a line of its own."""
        text = plain(entry)
        if text:
            self._line(written(line(text), self._terminal))

    def tick(self) -> None:
        """Between messages.

        Raises:
            BrokenPipeError: nobody reads our output any more (`| head`); without messages no write tells.
        """
        if not self._terminal.is_tty and _reader_gone():
            raise BrokenPipeError

    def note(self, text: str) -> None:
        """A remark of our own."""
        say(f"edge-agent: {safe(text)}")

    def lost(self, cause: str) -> None:
        """The broker went away."""
        if not self._quiet:
            self.note(f"{cause}; connecting again")

    def back(self) -> None:
        """It is there again."""

    def _raw(self, topic: str, payload: bytes) -> None:
        """Byte for byte into a pipe; what a terminal would obey is escaped there."""
        if self._terminal.is_tty:
            shown = safe(f"{topic} {payload.decode('utf-8', 'backslashreplace')}", _WHOLE)
            self._line(encodable(shown, self._terminal.charset))
        elif isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.buffer.write(topic.encode() + b" " + payload + b"\n")
            sys.stdout.buffer.flush()
        else:
            self._line(f"{topic} {_text(payload)}")

    def _json(self, topic: str, body: Any) -> None:
        ascii_only = self._terminal.is_tty and not self._terminal.unicode
        self._line(harmless_json(json.dumps({"topic": topic, "payload": body}, ensure_ascii=ascii_only)))

    @staticmethod
    def _line(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def _hold_against_schema(self, topic: str, body: Any) -> None:
        from edge_agent.mqtt.contract import problems

        found = parse_topic(self._prefix, topic)
        wrong = problems(found[1], body) if found else ["not a topic of ours"]
        if wrong:
            self.invalid += 1
            self.note(f"{topic}: {'; '.join(wrong)}")


class LiveView(View):
    """On a terminal: what is being said and how each device is, below the lines that stay.

    Args:
        where: the broker's address, for the last line.
    """

    def __init__(self, *, prefix: str, validate: bool, terminal: Terminal, where: str) -> None:
        super().__init__(prefix=prefix, form="text", validate=validate, terminal=terminal, quiet=False)
        self._where = safe(where, 200)
        self._painter, self._keyboard = Painter(sys.stdout), Keyboard()
        self._entries: deque[Entry] = deque(maxlen=_KEPT_ENTRIES)
        self._new: list[Entry] = []
        self._dirty, self._painted_s = True, 0.0
        self._stop_wanted = False

    def __enter__(self) -> Self:
        super().__enter__()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTSTP, self._on_stop_key)
        self._take_terminal()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Print what is still to be told, and give the terminal back."""
        try:
            if not isinstance(error, OSError):
                self._paint(time.monotonic())
        finally:
            self._give_terminal()

    @property
    def round_s(self) -> float:
        """Shorter while something waits to be painted."""
        return _FRAME_S if self._dirty else _ROUND_S

    def message(self, topic: str, payload: bytes, *, retained: bool = False) -> None:
        """Take one message; it shows with the next frame."""
        super().message(topic, payload, retained=retained)
        self._dirty = True
        self._frame()  # a flood of messages must not hold back the picture

    def tell(self, entry: Entry) -> None:
        """Something that stays, above what changes; how things were before we came, the region shows."""
        if not entry.news:
            return
        self._new.append(entry)
        self._entries.append(entry)
        self._dirty = True

    def tick(self) -> None:
        """Paint when there is something new, the ages have moved on, or the terminal has another size."""
        if self._stop_wanted:
            self._suspend()
        self._frame()

    def note(self, text: str) -> None:
        """A remark of our own, above what changes."""
        self.tell(Entry(kind="note", text=safe(text), time=_now()))

    def lost(self, cause: str) -> None:
        """A line, and the last line says so until it is back."""
        self._state.link_lost(cause, time.monotonic())
        self.tell(Entry(kind="link", text=f"broker lost: {safe(cause, 200)}; connecting again", time=_now()))
        self._frame(at_once=True)

    def back(self) -> None:
        """Another line."""
        away_s = time.monotonic() - self._state.lost_at_s
        self._state.link_back()
        self.tell(Entry(kind="link", text=f"broker back after {away_s:.0f} s", time=_now()))

    def _frame(self, *, at_once: bool = False) -> None:
        now_s = time.monotonic()
        passed_s = now_s - self._painted_s
        columns, rows = terminals.size(sys.stdout)
        if (columns, rows) != (self._terminal.columns, self._terminal.rows):
            self._terminal = msgspec.structs.replace(self._terminal, columns=columns, rows=rows)
            self._repaint(now_s)
        elif at_once or (self._dirty and passed_s >= _FRAME_S) or passed_s >= _AGES_S:
            self._paint(now_s)

    def _paint(self, now_s: float) -> None:
        above = self._lines(self._new)
        self._new.clear()
        self._painter.paint(above, self._region(now_s))

    def _repaint(self, now_s: float) -> None:
        """As much of what was told as fits, newest last."""
        self._new.clear()
        below = self._region(now_s)
        fits = max(1, self._terminal.rows - len(below))
        self._painter.repaint(self._lines(list(self._entries)[-fits:])[-fits:], below)

    def _lines(self, entries: list[Entry]) -> list[str]:
        day = today()
        return [
            written(one, self._terminal)
            for entry in entries
            for one in entry_lines(entry, self._terminal, day)
        ]

    def _region(self, now_s: float) -> list[str]:
        self._dirty, self._painted_s = False, now_s
        self._state.tick(now_s)
        lines = region(self._state, self._terminal, now_s, self._where)
        return [written(one, self._terminal) for one in lines]

    def _on_stop_key(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_wanted = True

    def _suspend(self) -> None:
        """Ctrl-Z: the shell gets a terminal as it left it; after `fg` the view is there again."""
        self._stop_wanted = False
        self._give_terminal()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._on_stop_key)
        self._take_terminal()
        self._repaint(time.monotonic())

    def _take_terminal(self) -> None:
        self._keyboard.mute()
        self._painter.enter()

    def _give_terminal(self) -> None:
        self._painter.leave()
        self._keyboard.restore()


def make_view(*, prefix: str, form: Form, validate: bool, where: str, quiet: bool) -> View:
    """The view that fits stdout and the wish."""
    terminal = terminals.look()
    if form == "text" and terminal.movable:
        return LiveView(prefix=prefix, validate=validate, terminal=terminal, where=where)
    return View(prefix=prefix, form=form, validate=validate, terminal=terminal, quiet=quiet)


def _reader_gone() -> bool:
    """Whether the other end of our pipe is closed."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


def _decoded(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return _text(payload)


def _text(payload: bytes) -> str:
    return payload.decode("utf-8", errors="replace")


def _now() -> str:
    return time.strftime("%H:%M:%S", time.gmtime())
