"""What `listen` knows: received messages in, entries that stay and the state of each device out. Pure.

Whatever a payload holds, it is taken or ignored, never an error, and what is kept of it is bounded: who may
publish could otherwise end the listener, or fill its memory.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from edge_agent.mqtt.wire import parse_topic
from edge_agent.screen.safe import encodable, safe
from edge_agent.types import Value

_MOST_DEVICES = 1000
_MOST_CHANNELS = 64
_MOST_IDS = 20_000
_NAME = 64
_WORD = 40
_PARTIAL_STALE_S = 30.0
_LEVEL_STALE_S = 180.0
"""Three of the intervals in which gauges are told."""
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})")
Moment: TypeAlias = tuple[str, str]
"""Day and time, "2026-11-20" and "13:00:00"; empty and dashes where they are unknown."""
_UNKNOWN: Moment = ("", "--:--:--")


class Entry(Value, frozen=True):
    """Something that happened, told once and for good. Texts are safe to show."""

    kind: Literal["final", "gap", "state", "event", "link", "note"]
    text: str
    day: str = ""
    """UTC, "2026-11-20"; empty where the message has no time."""
    time: str = "--:--:--"
    """UTC."""
    who: str = ""
    """Device, and channel when it has several."""
    state: str = ""
    facts: tuple[str, ...] = ()
    """In brackets behind the text: latency, confidence, flags, "late"."""
    doubtful: bool = False
    """The recogniser is not sure of it."""
    news: bool = True
    """False: it was so before we came."""


class Partial(Value, frozen=True):
    """What is being said."""

    id: str
    rev: int
    stable: str
    tail: str
    at_s: float


class Gauge(Value, frozen=True):
    """How loud one channel was."""

    rms_dbfs: float
    peak_dbfs: float
    at_s: float
    kept: bool
    """The broker kept it for us: it is older than `at_s`."""


class Device(msgspec.Struct):
    """One device as it stands."""

    name: str
    state: str = ""
    reasons: tuple[str, ...] = ()
    since: str = ""
    partials: dict[int, Partial] = msgspec.field(default_factory=dict)
    levels: dict[int, Gauge] = msgspec.field(default_factory=dict)
    channels: set[int] = msgspec.field(default_factory=set)
    last_seq: int = 0
    last_moment: Moment = ("", "")
    """Of the message with that number."""
    active_s: float = 0.0
    """When it last said or was something; gauges do not count."""


class ListenState:
    """Of one subscription.

    Args:
        prefix: of the topics.
        charset: what the terminal lacks of it is escaped here, before anyone counts cells.
    """

    def __init__(self, prefix: str, charset: str = "utf-8") -> None:
        self.prefix, self._charset = prefix, charset
        self.devices: OrderedDict[str, Device] = OrderedDict()
        self.finals = self.gaps = self.repeated = 0
        self.lost: str | None = None
        """Why there is no connection; None while there is one."""
        self.lost_at_s = 0.0
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()

    def receive(
        self, topic: str, body: Any, *, retained: bool, now_s: float, now: Moment = _UNKNOWN
    ) -> list[Entry]:
        """Take one message; answers what is to be told of it.

        Args:
            topic: as received.
            body: the decoded payload, of any form.
            retained: the broker had kept it.
            now_s: monotonic.
            now: day and time, UTC; for what has no time of its own.
        """
        found = parse_topic(self.prefix, topic)
        if found is None or not isinstance(body, dict):
            return []
        name, kind, suffix = found
        body = _in_charset(body, self._charset)
        device = self._device(safe(name, _NAME, charset=self._charset))
        if kind == "status":
            return self._status(device, body, now_s, _UNKNOWN if retained else now, retained=retained)
        if kind == "health":
            _take_levels(device, body, retained=retained, now_s=now_s)
        elif suffix == "transcript/partial":
            self._partial(device, body, now_s)
        elif kind == "transcript":
            return self._final(device, body, now_s)
        elif kind == "gap":
            return self._gap(device, body, now_s)
        elif kind == "event":
            return _event(device, body)
        return []

    def link_lost(self, cause: str, now_s: float) -> None:
        """The broker is away: what is being said is unknown from now on."""
        self.lost, self.lost_at_s = safe(cause, 200), now_s
        for device in self.devices.values():
            device.partials.clear()

    def link_back(self) -> None:
        """The broker is there again."""
        self.lost = None

    def tick(self, now_s: float) -> None:
        """Forget what has grown old: a partial whose final never came, gauges of a silent device."""
        for device in self.devices.values():
            for channel, partial in list(device.partials.items()):
                if now_s - partial.at_s > _PARTIAL_STALE_S:
                    del device.partials[channel]
            for channel, gauge in list(device.levels.items()):
                if now_s - gauge.at_s > _LEVEL_STALE_S:
                    del device.levels[channel]

    def _device(self, name: str) -> Device:
        """The device, made when new; those heard of longest ago are forgotten when there are too many."""
        if name not in self.devices:
            self.devices[name] = Device(name=name)
            if len(self.devices) > _MOST_DEVICES:
                self.devices.popitem(last=False)
        self.devices.move_to_end(name)
        return self.devices[name]

    def _is_new(self, device: Device, body: Mapping[str, Any]) -> bool:
        """Whether the id has not been told yet; what has none is always new."""
        key = _text(body, "id", _NAME)
        if not key:
            return True
        if (device.name, key) in self._ids:
            self.repeated += 1
            return False
        self._ids[device.name, key] = None
        if len(self._ids) > _MOST_IDS:
            self._ids.popitem(last=False)
        return True

    @staticmethod
    def _status(
        device: Device, body: Mapping[str, Any], now_s: float, now: Moment, *, retained: bool
    ) -> list[Entry]:
        state = _text(body, "state", _WORD) or "in no state"
        reasons = _texts(body.get("reasons"))
        since = f"{_text(body, 'since', _WORD)} {_text(body, 'boot_id', _WORD)}"
        if (state, reasons, since) == (device.state, device.reasons, device.since):
            return []  # told again after a reconnect
        news = bool(device.state) or not retained
        device.state, device.reasons, device.since, device.active_s = state, reasons, since, now_s
        if state in {"offline", "stopped"}:
            device.partials.clear()
            device.levels.clear()
        # In the will, `since` is when the lost connection was made; it ended now, or nobody knows when.
        day, time = now if state == "offline" else _moment(body.get("since"))
        text = f"is {state}{': ' if reasons else ''}{', '.join(reasons)}"
        return [Entry(kind="state", day=day, time=time, who=device.name, text=text, state=state, news=news)]

    def _partial(self, device: Device, body: Mapping[str, Any], now_s: float) -> None:
        channel, key = _channel(body), _text(body, "id", _NAME)
        device.channels.add(channel)
        rev = body.get("rev")
        rev = rev if isinstance(rev, int) and abs(rev) < 2**53 else 0
        if (device.name, key) in self._ids:
            return  # its final was faster
        before = device.partials.get(channel)
        if key and before is not None and before.id == key and rev < before.rev:
            return
        device.partials[channel] = Partial(
            id=key, rev=rev, stable=_text(body, "stable"), tail=_text(body, "tail"), at_s=now_s
        )
        device.active_s = now_s

    def _final(self, device: Device, body: Mapping[str, Any], now_s: float) -> list[Entry]:
        channel = _channel(body)
        device.channels.add(channel)
        device.partials.pop(channel, None)
        if not self._is_new(device, body):
            return []
        device.active_s = now_s
        self.finals += 1
        latency = body.get("latency_ms")
        total_ms = _number(latency.get("total")) if isinstance(latency, dict) else None
        sure = _number(body.get("confidence"))
        facts = [
            f"{total_ms:.0f} ms" if total_ms is not None else "",
            f"confidence {sure:.2f}" if sure is not None else "",
            *_texts(body.get("flags")),
            _wake(body.get("wake")),
            self._late(device, body),
        ]
        day, time = _moment(body.get("start"))
        return [
            Entry(
                kind="final",
                day=day,
                time=time,
                who=_who(device, channel),
                text=_text(body, "text"),
                facts=tuple(filter(None, facts)),
                doubtful=sure is not None and sure < 0.5,
            )
        ]

    def _gap(self, device: Device, body: Mapping[str, Any], now_s: float) -> list[Entry]:
        key = _text(body, "id", _NAME)
        for channel, partial in list(device.partials.items()):
            if partial.id and partial.id == key:
                del device.partials[channel]  # it ends in this gap
        if not self._is_new(device, body):
            return []
        device.active_s = now_s
        self.gaps += 1
        length = _number(body.get("duration_ms"))
        count = _number(body.get("dropped"))
        text = f"gap of {length or 0:.0f} ms: {_text(body, 'cause', _WORD) or 'no cause told'}"
        if count:
            text += f", {count:.0f} messages given up"
        day, time = _moment(body.get("start"))
        late = self._late(device, body)
        return [
            Entry(kind="gap", day=day, time=time, who=device.name, text=text, facts=(late,) if late else ())
        ]

    @staticmethod
    def _late(device: Device, body: Mapping[str, Any]) -> str:
        """Whether later ones were told before: it comes from the backlog, or is replayed.

        A device that was set up anew counts from one again; its clock goes on.
        """
        seq, moment = body.get("seq"), _moment(body.get("start"))
        if not isinstance(seq, int) or not 0 < seq < 2**53:
            return ""
        if seq < device.last_seq and moment < device.last_moment:
            return "late or replayed"
        device.last_seq, device.last_moment = seq, moment
        return ""


def _in_charset(value: Any, charset: str, depth: int = 2) -> Any:
    """The body with its texts in the terminal's character set, as deep as they are shown from."""
    if charset == "utf-8":
        return value
    if isinstance(value, str):
        return encodable(value, charset)
    if depth and isinstance(value, list):
        return [_in_charset(one, charset, depth - 1) for one in value]
    if depth and isinstance(value, dict):
        return {key: _in_charset(one, charset, depth - 1) for key, one in value.items()}
    return value


def _take_levels(device: Device, body: Mapping[str, Any], *, retained: bool, now_s: float) -> None:
    """The gauges of `audio`, and of its `channels` where there are several."""
    audio = body.get("audio")
    if not isinstance(audio, dict):
        return
    several = audio.get("channels")
    told = several[:_MOST_CHANNELS] if isinstance(several, list) else [audio]
    device.levels.clear()
    for place, gauges in enumerate(told):
        if not isinstance(gauges, dict):
            continue
        rms, peak = (
            _number(gauges.get("rms_dbfs"), negative=True),
            _number(gauges.get("peak_dbfs"), negative=True),
        )
        if rms is not None and peak is not None:
            device.levels[place] = Gauge(rms_dbfs=rms, peak_dbfs=peak, at_s=now_s, kept=retained)
            device.channels.add(place)


def _event(device: Device, body: Mapping[str, Any]) -> list[Entry]:
    """Events that a person would want to know; the beginning and end of speech show anyway."""
    what = _text(body, "type", _WORD)
    if not what or what in {"speech_start", "speech_end"}:
        return []
    day, time = _moment(body.get("at"))
    return [Entry(kind="event", day=day, time=time, who=device.name, text=what.replace("_", " "))]


def _wake(wake: object) -> str:
    word = wake.get("word") if isinstance(wake, dict) else None
    return f"after {safe(word, _WORD)}" if isinstance(word, str) and word else ""


def _who(device: Device, channel: int) -> str:
    several = len(device.channels) > 1 or channel
    return f"{device.name}/{channel}" if several else device.name


def _channel(body: Mapping[str, Any]) -> int:
    channel = body.get("channel")
    return channel if type(channel) is int and 0 <= channel < _MOST_CHANNELS else 0


def _text(body: Mapping[str, Any], key: str, longest: int = 4000) -> str:
    value = body.get(key)
    return safe(value, longest) if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(safe(one, 200) for one in value[:10] if isinstance(one, str) and one)


def _number(value: object, *, negative: bool = False) -> float | None:
    """A number that fits a line; None for all else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not -1e9 < value < 1e9 or (value < 0 and not negative) or math.isnan(value):
        return None
    return float(value)


def _moment(value: object) -> Moment:
    """Day and time of an RFC 3339 time; a device may send anything."""
    found = _TIME.match(value) if isinstance(value, str) and value.isascii() else None
    return (found[1], found[2]) if found else _UNKNOWN
