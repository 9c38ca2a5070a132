"""Whether a candidate may serve: rules over what was measured, pure.

A model may be slower or larger than the one before when its signed document says so; one that says nothing
has to keep within twice of what serves now. The profile's promise bounds both.
"""

from __future__ import annotations

from statistics import median

from edge_agent.fleet.bundle import Expect
from edge_agent.types import Value

ENOUGH_WORDS = 0.7
"""Share of a recording's words that a small model gets on a bad day; a broken one gets none."""
WORSE_WORDS = 0.15
SLOWER, LARGER = 2.0, 1.5
"""Without a word of the publisher."""
LIVE_SLOWER = 2.5
"""On the clock, beside everything else the machine does."""
LOST_BROKER_S = 38.0
"""Of silence. A healthy link is silent for a keepalive (28 s) and an answer; with the time to swap, the
previous model is back within a minute of the last word."""
STEADY_S = 5.0
"""A broker that lets us in and throws us out again is as good as lost."""
LEAST_FINALS = 3
LEAST_COMPARED = 6
"""Utterances that a comparison needs."""
PATIENCE = 6
"""Times the trial's length: after that, a room where nobody speaks is no reason to wait on."""


class Measured(Value, frozen=True):
    """One model over the golden recordings."""

    words: float
    """Share of the expected words that were heard, in order; of the worst recording."""
    rtf: float
    """Processor seconds per second of sound."""
    peak_mb: float
    """Of a process that loads it and decodes."""
    heard: str = ""
    """Of the worst recording."""


class Promise(Value, frozen=True):
    """Of the profile."""

    rtf_max: float
    ram_max_mb: float


def rehearsal(now: Measured, before: Measured | None, promise: Promise, expect: Expect) -> str:
    """Why a candidate is not tried on live speech; empty when it may be."""
    if now.words < ENOUGH_WORDS:
        return f'of a golden recording {now.words:.0%} of the words came out: "{now.heard[:80]}"'
    if before is not None and now.words < before.words - WORSE_WORDS:
        return f"{now.words:.0%} of the golden words came out, {before.words:.0%} with the present model"
    rtf_max = _bound(expect.rtf_max, promise.rtf_max, SLOWER * before.rtf if before else None)
    if now.rtf > rtf_max:
        was = f", {before.rtf:.2f} with the present model" if before else ""
        return f"it takes {now.rtf:.2f} s per second of speech{was}; {rtf_max:.2f} are allowed"
    ram_max_mb = _bound(expect.ram_max_mb, promise.ram_max_mb, LARGER * before.peak_mb if before else None)
    if now.peak_mb > ram_max_mb:
        was = f", {before.peak_mb:.0f} with the present model" if before else ""
        return f"it takes {now.peak_mb:.0f} MB{was}; {ram_max_mb:.0f} are allowed"
    return ""


def _bound(said: float | None, promised: float, usual: float | None) -> float:
    """What the publisher says within the profile's promise; else what is usual, within it too."""
    if said is not None:
        return min(float(said), promised)
    return promised if usual is None else min(usual, promised)


class Link(Value, frozen=True):
    """The connection to the broker, as it is now."""

    connected: bool
    connects: int = 1
    """So far."""
    quiet_s: float = 0.0
    """Since the broker of this connection last said anything."""
    reason: str = ""
    """Why there is none."""


class Contact:
    """How long the broker has been out of reach, from looks at the link (seconds of any steady clock).

    A connection that stands but brings nothing counts as none, and so does one that has not stood for a
    while: what a new model breaks may well be the connection and not the network.

    Args:
        now_s: a moment when all was well.
        link: as it is then.
    """

    def __init__(self, now_s: float, link: Link) -> None:
        self._well_s, self._connects, self._since_s = now_s, link.connects, now_s - STEADY_S

    def lost_s(self, now_s: float, link: Link) -> float:
        """Seconds since the broker was last there."""
        if link.connects != self._connects:
            self._connects, self._since_s = link.connects, now_s
        if link.connected and now_s - self._since_s >= STEADY_S:
            self._well_s = max(self._well_s, now_s - link.quiet_s)
        return now_s - self._well_s


class Live(Value, frozen=True):
    """What live speech told of one model."""

    rtfs: tuple[float, ...] = ()
    """Of its last finals: seconds of decoding per second of speech, on the clock."""
    finals: int = 0
    rejected: int = 0
    errors: int = 0

    @property
    def rejects(self) -> float:
        """Share of utterances that the guards rejected."""
        return self.rejected / max(1, self.finals + self.rejected)


class Watch(Value, frozen=True):
    """A moment of a trial."""

    elapsed_s: float
    trial_s: float
    broker_lost_s: float
    broker_says: str
    """Why it is lost, as far as the connection knows."""
    trouble: str
    """What the engine's spares say; empty when they were not needed."""
    now: Live
    before: Live


class Verdict(Value, frozen=True):
    """passed, or why not; neither: the trial goes on."""

    passed: bool = False
    why: str = ""
    final: bool = True
    """The same would happen again."""


def trial(watch: Watch, expect: Expect, promise: Promise) -> Verdict:
    """What follows from this moment."""
    if watch.trouble:
        return Verdict(why=f"in its trial {watch.trouble}", final=False)
    if watch.now.errors >= 2:
        return Verdict(why=f"in its trial {watch.now.errors} decodes failed", final=False)
    if watch.broker_lost_s > LOST_BROKER_S:
        said = watch.broker_says or "it lets us in, and is gone again or silent"
        lost = f"in its trial the broker was away for {watch.broker_lost_s:.0f} s: {said}"
        return Verdict(why=lost, final=False)
    worse = _regression(watch, expect, promise)
    if worse:
        return Verdict(why=worse)
    enough = watch.now.finals >= LEAST_FINALS or watch.elapsed_s >= PATIENCE * watch.trial_s
    return Verdict(passed=watch.elapsed_s >= watch.trial_s and enough)


def _regression(watch: Watch, expect: Expect, promise: Promise) -> str:
    now, before = watch.now, watch.before
    if now.finals + now.rejected >= LEAST_COMPARED and now.rejects >= max(0.5, before.rejects + 0.3):
        return f"in its trial {now.rejects:.0%} of what was said was rejected, {before.rejects:.0%} before"
    if len(now.rtfs) < LEAST_COMPARED:
        return ""
    rtf = median(now.rtfs)
    usual = LIVE_SLOWER * median(before.rtfs) if len(before.rtfs) >= LEAST_COMPARED else promise.rtf_max
    allowed = max(usual, LIVE_SLOWER * (expect.rtf_max or 0.0))
    if rtf > allowed:
        return f"in its trial it took {rtf:.2f} s per second of speech; {allowed:.2f} are allowed"
    return ""
