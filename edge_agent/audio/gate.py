"""When a stream is listened to at all: always, when told to, or after a wake word. Pure; one per channel.

CLOSED -> (command, or the wake word) OPEN -> (the utterance has ended, nobody spoke for `listen_s`, or the
time asked for is over) CLOSED. An utterance that has begun is always heard to its end. While closed nothing
is recognised and nothing leaves the device; the sound of the last `pre_roll_ms`, from memory, is heard with
the opening, so that a word begun just before it is whole.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from edge_agent.types import Value, Wake

GateMode: TypeAlias = Literal["always", "command", "wake"]

_S = 1_000_000_000


class GateConfig(Value, frozen=True):
    """How a gate opens and closes."""

    mode: GateMode = "always"
    """always: there is no gate; command: `listen` opens it; wake: a wake word does as well."""
    listen_s: float = 8.0
    """How long it stays open for speech to begin."""
    threshold: float = 0.5
    """The least score that passes for the wake word."""
    refractory_s: float = 2.0
    """After the wake word was heard, this long no further one is taken for it."""
    pre_roll_ms: int = 500
    """Sound from before a command that is heard too: one begins to speak while the button goes down."""
    wake_pre_roll_ms: int = 0
    """The same before the moment a wake word was heard; more brings its last syllable along."""
    rest_ms: int = 350
    """Speech under way when a wake word was heard, over sooner than this, is its rest: models fire up to
    0.3 s before its end (measured on 8 recordings)."""


class Opened(Value, frozen=True):
    """From now on, and from a little before, speech is heard."""

    wake: Wake | None = None
    """None: a command opened it."""


class Closed(Value, frozen=True):
    """Nothing is heard until it opens again."""


class Gate:
    """Times are monotonic nanoseconds on the time line of the sound."""

    def __init__(self, config: GateConfig) -> None:
        self.config = config
        self.openings = 0
        """How often it has been opened."""
        self._until_ns: int | None = None  # closed
        self._single = False
        self._fired_ns: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether speech is heard."""
        return self._until_ns is not None

    def listen(self, now_ns: int, duration_s: float | None = None) -> None:
        """Open it, or keep it open.

        Args:
            now_ns: when.
            duration_s: for so long, whatever is said; None: for one utterance.
        """
        if not self.is_open:
            self.openings += 1
        self._single = duration_s is None
        wait_s = self.config.listen_s if duration_s is None else duration_s
        self._until_ns = now_ns + int(wait_s * _S)

    def go_on(self, now_ns: int) -> None:
        """What was being said was cut although it may go on: wait for that."""
        if self._until_ns is not None:
            self._until_ns = max(self._until_ns, now_ns + int(self.config.listen_s * _S))

    def close(self) -> None:
        """Close it at once."""
        self._until_ns = None

    def wakes(self, score: float, now_ns: int) -> bool:
        """Take a score of the wake word (0..1); True when it opens the gate now."""
        if score < self.config.threshold or self.is_open:
            return False
        if self._fired_ns is not None and now_ns - self._fired_ns < self.config.refractory_s * _S:
            return False
        self._fired_ns = now_ns
        self.listen(now_ns)
        return True

    def follow(self, now_ns: int, *, speaking: bool, ended: bool) -> bool:
        """Take a frame's outcome; True when the gate closes with it.

        Args:
            now_ns: end of the frame.
            speaking: whether there is, or may be, an utterance now.
            ended: whether a silence ended one in this frame.
        """
        if self._until_ns is None or speaking:
            return False
        if (ended and self._single) or now_ns >= self._until_ns:
            self._until_ns = None
            return True
        return False
