"""Who wants silence, and until when. Pure; monotonic time is given."""

from __future__ import annotations


class Mutes:
    """Muted while anybody wants it."""

    def __init__(self) -> None:
        self._until_ns: dict[str, int | None] = {}

    @property
    def muted(self) -> bool:
        """Whether the microphone must be closed."""
        return bool(self._until_ns)

    @property
    def holders(self) -> tuple[str, ...]:
        """Who wants it."""
        return tuple(sorted(self._until_ns))

    def mute(self, holder: str, until_ns: int | None) -> None:
        """A holder wants silence; None: until it takes that back."""
        self._until_ns[holder] = until_ns

    def unmute(self, holder: str | None) -> None:
        """A holder takes it back; None: all of them do."""
        if holder is None:
            self._until_ns.clear()
        else:
            self._until_ns.pop(holder, None)

    def expire(self, now_ns: int) -> tuple[str, ...]:
        """Forget those whose time is over; who they were."""
        over = tuple(name for name, until in self._until_ns.items() if until is not None and now_ns >= until)
        for name in over:
            del self._until_ns[name]
        return over
