"""When each channel's next partial is due, and what is already stable in it. No I/O, no clock of its own."""

from __future__ import annotations

from edge_agent.text.stabilise import Stabiliser, StabiliserConfig, Stable
from edge_agent.types import Hypothesis, Utterance, Value

_BUSY_SHARE = 0.5
"""All partials together may take at most this share of the engine's time; their interval widens beyond it."""
_OLD_NS = 1_000_000_000
"""Begins to be told at once: it went on from a cut, or was said before a gate opened."""


class PartialConfig(Value, frozen=True):
    """How often, and what counts as stable."""

    enabled: bool = True
    first_ms: float = 400.0
    """From the moment speech is sure (0.1 s after it starts) to the first partial."""
    interval_ms: float = 500.0
    stabiliser: StabiliserConfig = StabiliserConfig()


class Pace:
    """How much of the partials a busy machine still tells; shared by all channels."""

    def __init__(self) -> None:
        self.factor = 1.0
        """Times the configured interval."""
        self.off = False
        self.talking = 0
        """Channels with an open utterance: the engine's time is shared among them."""


class Growing:
    """The open utterance of one channel."""

    def __init__(self, config: PartialConfig, now_ns: int, pace: Pace) -> None:
        self._config, self._pace = config, pace
        self._stabiliser = Stabiliser(config.stabiliser)
        self._id = ""
        self.due_ns = now_ns + int(config.first_ms * 1e6)
        self.paused = False
        self.revision = 0
        """Partials published so far."""
        self.hypothesis: Hypothesis | None = None
        """The last one, the draft of the next decode."""
        self._shown = Stable(stable="", tail="")

    def take(self, utterance: Utterance, hypothesis: Hypothesis, *, changed: bool = False) -> Stable | None:
        """Note a hypothesis of the utterance so far; answers what to publish.

        Args:
            changed: nothing is to be published unless it differs from what was last.
        """
        self.hypothesis = hypothesis
        shown = self._stabiliser.update(hypothesis, utterance.duration_s)
        if changed and shown == self._shown:
            return None
        self.revision += 1
        self._shown = shown
        return shown

    def done(self, began_ns: int, now_ns: int) -> None:
        """Plan the next one: after the interval, later when this one took long."""
        took_ns = now_ns - began_ns
        self.due_ns = max(
            began_ns + int(self._config.interval_ms * self._pace.factor * 1e6),
            now_ns + int(took_ns * max(1, self._pace.talking) / _BUSY_SHARE - took_ns),
        )


class Partials:
    """All channels."""

    def __init__(self, config: PartialConfig) -> None:
        self._config = config
        self.pace = Pace()
        self._growing: dict[int, Growing] = {}

    def configure(self, config: PartialConfig) -> None:
        """Other values from the next utterance on."""
        self._config = config

    def started(self, channel: int, now_ns: int, start_ns: int | None = None) -> None:
        """Speech began; at `start_ns`, when the sound is older: then words are there already."""
        if self._config.enabled:
            growing = self._growing[channel] = Growing(self._config, now_ns, self.pace)
            if start_ns is not None and now_ns - start_ns > _OLD_NS:
                growing.due_ns = now_ns
            self.pace.talking = len(self._growing)

    def paused(self, channel: int, *, paused: bool) -> None:
        """Silence began, or speech went on: in a pause the early final is decoded instead."""
        if channel in self._growing:
            self._growing[channel].paused = paused

    def ended(self, channel: int) -> Growing | None:
        """The utterance is over; answers what was told of it."""
        growing = self._growing.pop(channel, None)
        self.pace.talking = len(self._growing)
        return growing

    def growing(self, channel: int) -> Growing | None:
        """The open utterance of a channel."""
        return self._growing.get(channel)

    def due(self, now_ns: int) -> int | None:
        """The channel whose partial is the longest overdue."""
        if self.pace.off:
            return None
        waiting = [
            (g.due_ns, channel) for channel, g in self._growing.items() if not g.paused and g.due_ns <= now_ns
        ]
        return min(waiting)[1] if waiting else None

    def wait_s(self, now_ns: int, at_most_s: float) -> float:
        """Seconds until one is due."""
        if self.pace.off:
            return at_most_s
        dues = [g.due_ns for g in self._growing.values() if not g.paused]
        return min([at_most_s, *((max(0, due - now_ns)) / 1e9 for due in dues)])
