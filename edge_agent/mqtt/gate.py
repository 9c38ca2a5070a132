"""Whether a well-formed command is carried out now: expiry, repeated ids, rates. Pure; time is given.

Ids are remembered until they could not pass for another reason: a command lives a day at most, and an
expired one is refused as expired.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from edge_agent.mqtt.commands import Command, Refusal, kind_of
from edge_agent.types import Value

MAX_LIFE_MS = 24 * 3600 * 1000
MAX_IDS = 4096
SKEW_MS = 5 * 60 * 1000
"""How far ahead of ours the sender's clock may be."""

_PER_MINUTE: dict[str, int] = {
    "mute": 30,
    "self_test": 6,
    "replay": 6,
    "set_profile": 6,
    "install_model": 6,
    "restart": 1,
}
_ALL_PER_MINUTE = 120
_SETTLE_NS = 60 * 1_000_000_000
"""After a start, this long no command may restart the device: one that keeps asking cannot keep it down."""
_RESTARTING = frozenset({"restart", "set_profile"})
_MINUTE_NS = 60 * 1_000_000_000


class Moment(Value, frozen=True):
    """Now, on both clocks."""

    utc_ms: int
    monotonic_ns: int
    synced: bool
    """Whether the wall clock can be believed."""


class Gate:
    """Remembers what was admitted.

    Args:
        started_ns: monotonic time of the device's start.
        seen: command id -> expiry in UTC milliseconds, from before the last restart.
    """

    def __init__(self, *, started_ns: int, seen: Mapping[str, int] | None = None) -> None:
        self._started_ns = started_ns
        self._seen: dict[str, int] = dict(seen or {})
        self._admitted: dict[str, deque[int]] = {}

    @property
    def seen(self) -> dict[str, int]:
        """Ids to remember across a restart."""
        return dict(self._seen)

    def admit(self, command: Command, now: Moment) -> Refusal | None:
        """None: carry it out. Otherwise why not; a refused id may be used again."""
        refused = self._timing(command, now) or self._repeated(command)
        if refused is not None:
            return refused
        too_often = self.pace(kind_of(command.action), now)
        if too_often:
            return _refuse(command, too_often)
        self._remember(command, now)
        return None

    def pace(self, kind: str, now: Moment) -> str:
        """Count one command of a kind; why it comes too often, or "" when it may pass."""
        if kind in _RESTARTING and now.monotonic_ns - self._started_ns < _SETTLE_NS:
            return "started less than a minute ago"
        limits = ((kind, _PER_MINUTE.get(kind, _ALL_PER_MINUTE)), ("", _ALL_PER_MINUTE))
        for name, limit in limits:
            if len(self._recent(name, now)) >= limit:
                return f"more than {limit} {name or 'commands'} in a minute"
        for name, _ in limits:
            self._recent(name, now).append(now.monotonic_ns)
        return ""

    def _timing(self, command: Command, now: Moment) -> Refusal | None:
        life_ms = command.expires_utc_ms - command.issued_utc_ms
        if life_ms <= 0:
            return _refuse(command, "expires_at is not after issued_at")
        if life_ms > MAX_LIFE_MS:
            return _refuse(command, "expires_at is more than 24 hours after issued_at")
        if not now.synced:
            return None  # our clock may be years off; the broker keeps nothing for us while we are away
        if now.utc_ms >= command.expires_utc_ms:
            late_s = (now.utc_ms - command.expires_utc_ms) / 1000
            return Refusal(
                command_id=command.command_id, state="expired", reason=f"expired {late_s:.0f} s ago"
            )
        if command.issued_utc_ms - now.utc_ms > SKEW_MS:
            return _refuse(command, "issued_at is in the future; compare the clocks")
        return None

    def _repeated(self, command: Command) -> Refusal | None:
        known = command.command_id in self._seen
        return _refuse(command, "this command_id was used before") if known else None

    def _recent(self, name: str, now: Moment) -> deque[int]:
        times = self._admitted.setdefault(name, deque())
        while times and now.monotonic_ns - times[0] >= _MINUTE_NS:
            times.popleft()
        return times

    def _remember(self, command: Command, now: Moment) -> None:
        if now.synced:
            self._seen = {known: until for known, until in self._seen.items() if until > now.utc_ms}
        while len(self._seen) >= MAX_IDS:
            del self._seen[min(self._seen, key=self._seen.__getitem__)]
        self._seen[command.command_id] = command.expires_utc_ms


def _refuse(command: Command, reason: str) -> Refusal:
    return Refusal(command_id=command.command_id, reason=reason)
