"""`up/event`: what happens, as it happens, for those who want it (mqtt.events). Dropped while offline."""

from __future__ import annotations

from edge_agent.clock import Clock
from edge_agent.mqtt import wire
from edge_agent.mqtt.aside import Aside, Post

_EXPIRY_S = 3600


class Events:
    """Any thread; never waits.

    Args:
        aside: sends them.
        topic: `up/event` of this device.
        clock: for their time.
        wanted: False: says nothing.
    """

    def __init__(self, aside: Aside, topic: str, clock: Clock, *, wanted: bool) -> None:
        self._aside, self._topic, self._clock, self._wanted = aside, topic, clock, wanted

    def say(self, kind: str, **fields: object) -> None:
        """Something of a kind happened now: speech_start, speech_end, profile_changed, muted, unmuted."""
        if self._wanted:
            body = wire.encode_event(type=kind, at_utc_ms=self._clock.utc_ms(), fields=fields)
            self._aside.put(Post(topic=self._topic, payload=body, expiry_s=_EXPIRY_S, live_only=True))
