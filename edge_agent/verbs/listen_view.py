"""What `listen` prints: raw lines, JSON lines, plain lines, or a live view on a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Literal, Self

import msgspec

from edge_agent.mqtt.wire import parse_topic
from edge_agent.verbs.common import print_json_line, say


class View:
    """One line per message; `invalid` counts payloads that do not fit their schema."""

    def __init__(self, *, prefix: str, form: Literal["text", "raw", "json"], validate: bool) -> None:
        self._prefix, self._form, self._validate = prefix, form, validate
        self.invalid = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    def message(self, topic: str, payload: bytes) -> None:
        """Show one message."""
        body = _text(payload) if topic.endswith("/up/text") else _decoded(payload)
        if self._validate:
            self._hold_against_schema(topic, body)
        if self._form == "raw":
            self.line(f"{topic} {payload.decode('utf-8', errors='replace')}")
        elif self._form == "json":
            print_json_line({"topic": topic, "payload": body})
        else:
            self.show(topic, body)

    def show(self, topic: str, body: Any) -> None:
        """One line for a person; partials only where they can change in place."""
        text = self.text_of(topic, body)
        if text and not topic.endswith("/transcript/partial"):
            self.line(text)

    def line(self, text: str) -> None:
        """A line that stays."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def text_of(self, topic: str, body: Any) -> str:
        """A message as a line; empty for those only programs read, and for what is not ours."""
        found = parse_topic(self._prefix, topic)
        if found is None or not isinstance(body, dict):
            return ""
        device, kind, _ = found
        if kind == "transcript":
            latency = body.get("latency_ms") or {}
            said = f" ({latency['total']} ms)" if "total" in latency else ""
            return f"{_time(body.get('start'))} {device}: {body.get('text', '')}{said}"
        if kind == "gap":
            length, cause = body.get("duration_ms"), body.get("cause")
            return f"{_time(body.get('start'))} {device}: [gap of {length} ms: {cause}]"
        if kind == "status":
            why = ", ".join(map(str, body.get("reasons") or ()))
            return f"{_time(body.get('since'))} {device} is {body.get('state')}{': ' + why if why else ''}"
        return ""

    def _hold_against_schema(self, topic: str, body: Any) -> None:
        from edge_agent.mqtt.contract import problems

        found = parse_topic(self._prefix, topic)
        wrong = problems(found[1], body) if found else ["not a topic of ours"]
        if wrong:
            self.invalid += 1
            say(f"edge-agent: {topic}: {'; '.join(wrong)}")


class LiveView(View):
    """On a terminal: partials change in place below the lines that stay."""

    def __init__(self, *, prefix: str, validate: bool) -> None:
        super().__init__(prefix=prefix, form="text", validate=validate)
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._text = Text
        self._partials: dict[tuple[str, int], Any] = {}
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, refresh_per_second=10, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        self._live.stop()

    def show(self, topic: str, body: Any) -> None:
        """Partials below, everything else above them for good."""
        found = parse_topic(self._prefix, topic)
        if found is not None and found[1] == "transcript" and isinstance(body, dict):
            spoken = (found[0], int(body.get("channel", 0)))
            self._partials.pop(spoken, None)
            if body.get("kind") == "partial":
                stable, tail = str(body.get("stable", "")), str(body.get("tail", ""))
                self._partials[spoken] = self._text.assemble(
                    f"{found[0]}: ", stable, ("" if not tail else " " + tail.lstrip(), "dim")
                )
            self._live.update(self._text("\n").join(self._partials.values()))
        super().show(topic, body)

    def line(self, text: str) -> None:
        """A line that stays, printed above the partials."""
        self._console.print(self._text(text))


def make_view(*, prefix: str, form: Literal["text", "raw", "json"], validate: bool) -> View:
    """The view that fits stdout and the wish."""
    if form == "text" and sys.stdout.isatty():
        return LiveView(prefix=prefix, validate=validate)
    return View(prefix=prefix, form=form, validate=validate)


def _decoded(payload: bytes) -> Any:
    try:
        return msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return _text(payload)


def _text(payload: bytes) -> str:
    return payload.decode("utf-8", errors="replace")


def _time(moment: object) -> str:
    return moment[11:19] if isinstance(moment, str) and len(moment) > 19 else "--:--:--"
