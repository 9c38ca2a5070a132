"""The `ears` thread: source -> ring, and nothing else. It heals itself and admits every loss as a Gap.

Loss while the device is away is told in pieces (soon, then ever more rarely) that join without a seam, so
that the outside knows within a second and the pieces add up exactly.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Literal

from edge_agent.audio.ring import Ring
from edge_agent.audio.source import AudioSource, Block, EndOfAudio, Overrun
from edge_agent.audio.timeline import Timeline
from edge_agent.clock import Clock
from edge_agent.errors import CaptureError, EdgeAgentError, MicrophoneBusy, MicrophoneLost
from edge_agent.types import Gap, GapCause, Value

_log = logging.getLogger(__name__)
_READ_S = 0.25
_BACK_OFF_S = (0.2, 0.4, 0.8, 1.6, 2.0)
_PIECES_S = (0.5, 10.0, 60.0, 600.0, 3600.0)
_START_NS = 150_000_000  # a device may take this long to start without it being called a gap
_LATEST_NS = 100_000_000  # a block may begin this long before it arrives; never tell a gap beyond it


class EarsStatistics(Value, frozen=True):
    """What the ears went through."""

    state: Literal["starting", "hearing", "lost", "muted", "ended"]
    reason: str
    """Why they do not hear; empty when they do."""
    frames: int
    overruns: int
    losses: int
    """Times the device went away."""
    dropped_frames: int
    """Frames the ring had to drop because the cutter was slow."""


@dataclass(slots=True)
class _Outage:
    """Sound is missing from `told_ns` on; everything before has been told."""

    cause: GapCause
    told_ns: int
    due_ns: int
    """When the next piece is told."""
    pieces: int = 0


class Ears:
    """Reads a source into a ring for as long as there is sound.

    Args:
        source: opened by the ears when it is not open yet, and again after each loss.
        ring: closed when the source ends or the ears stop.
    """

    def __init__(self, source: AudioSource, ring: Ring, *, clock: Clock) -> None:
        self.failure: BaseException | None = None
        """What ended the thread, when it was neither the end of the sound nor `stop`."""
        self._source = source
        self._ring = ring
        self._clock = clock
        self._timeline: Timeline | None = None
        self._outage: _Outage | None = None
        self._is_open = False
        self._born_ns = 0
        self._tries = 0
        self._reason = ""
        self._ended = False
        self._frames = self._overruns = self._losses = self._dropped = self._progress = 0
        self._muted = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ears", daemon=True)

    def start(self) -> None:
        """Start the thread; from now on all time is heard or told as a gap."""
        self._born_ns = self._clock.monotonic_ns()
        self._thread.start()

    def stop(self) -> None:
        """End soon; the ring is closed then."""
        self._stopping.set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait for the thread. True when it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def mute(self) -> None:
        """Close the device and tell the time until `unmute` as a gap."""
        self._muted.set()

    def unmute(self) -> None:
        """Open the device again."""
        self._muted.clear()

    @property
    def alive(self) -> bool:
        """True while the thread runs."""
        return self._thread.is_alive()

    @property
    def progress(self) -> int:
        """Rises while the thread is well, device or no device: a heartbeat."""
        return self._progress

    def statistics(self) -> EarsStatistics:
        """Counts since the start; any thread."""
        if self._ended:
            state: Literal["starting", "hearing", "lost", "muted", "ended"] = "ended"
        elif self._muted.is_set():
            state = "muted"
        elif self._timeline is not None:
            state = "hearing"
        else:
            outage = self._outage
            state = "starting" if outage is None or outage.cause == "restart" else "lost"
        return EarsStatistics(
            state=state,
            reason="" if state == "hearing" else self._reason,
            frames=self._frames,
            overruns=self._overruns,
            losses=self._losses,
            dropped_frames=self._dropped,
        )

    # --- the thread ---

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._progress += 1
                if self._muted.is_set():
                    self._wait_muted()
                elif self._is_open or self._open():
                    self._listen()
        except EndOfAudio:
            pass
        except EdgeAgentError as error:
            self.failure = error
            _log.error("%s", error)
        except Exception as error:  # noqa: BLE001 - the thread's top: the supervisor reads `failure` and restarts
            self.failure = error
            _log.exception("the ears stopped")
        finally:
            self._close()
            if self._outage is not None:
                self._tell(self._clock.monotonic_ns())
            self._ended = True
            self._ring.close()

    def _listen(self) -> None:
        try:
            item = self._source.read(_READ_S)
        except (MicrophoneLost, MicrophoneBusy) as error:
            self._lose(error)
            return
        if isinstance(item, Block):
            self._hear(item)
        elif isinstance(item, Overrun):
            self._overruns += 1
            self._break("xrun", self._clock.monotonic_ns())
        self._tell_some()

    def _hear(self, block: Block) -> None:
        frames = len(block.pcm)
        if self._timeline is not None and not block.behind and self._timeline.lost(block.start_ns):
            self._overruns += 1
            self._break("xrun", block.start_ns)
        timeline = self._timeline or self._begin(block.start_ns)
        start_ns = timeline.place(frames, None if block.behind else block.start_ns)
        self._frames += frames
        # A slow cutter holds back a recording; a microphone cannot be held back.
        while not self._source.paced and not self._ring.wait_room(frames, _READ_S):
            self._progress += 1
            if self._stopping.is_set():
                return
        self._dropped += self._ring.write(block.pcm, start_ns)

    def _begin(self, start_ns: int) -> Timeline:
        """A new unbroken stretch; closes the gap before it."""
        if self._outage is not None:
            starting = self._outage.cause == "restart" and not self._outage.pieces
            # A source that was opened before us may already hold sound from before we were born.
            if not starting or start_ns - self._born_ns >= _START_NS:
                start_ns = max(start_ns, self._outage.told_ns)
                self._tell(start_ns)
            self._outage = None
        source = self._source
        self._ring.begin(rate_hz=source.rate_hz, channels=source.channels, start_ns=start_ns)
        self._timeline = Timeline(source.rate_hz, start_ns)
        if self._reason:
            _log.info("%s is heard again", source.name)
            self._reason = ""
        self._tries = 0
        return self._timeline

    def _break(self, cause: GapCause, now_ns: int) -> None:
        """Sound is missing from the last frame on, or, when there was none yet, from the start."""
        if self._outage is None:
            missing_ns = self._born_ns if self._timeline is None else self._timeline.end_ns
            self._outage = _Outage(cause, missing_ns, now_ns + int(_PIECES_S[0] * 1e9))
        elif self._outage.cause != cause:
            self._tell(now_ns - _LATEST_NS)
            self._outage.cause = cause
        self._timeline = None

    def _open(self) -> bool:
        try:
            self._source.open()
        except (MicrophoneLost, MicrophoneBusy) as error:  # all else no later try will mend
            self._lose(error)
            return False
        self._is_open = True
        if self._outage is None and self._timeline is None:
            self._born_ns = self._clock.monotonic_ns()  # what opening takes is nobody's loss
            self._break("restart", self._born_ns)
        return True

    def _lose(self, error: CaptureError) -> None:
        """The device is away: say so once, close it, wait a little."""
        if self._reason != str(error):
            _log.warning("%s", error)
            self._reason = str(error)
        if self._is_open:
            self._losses += 1
        self._close()
        self._break("unplug", self._clock.monotonic_ns())
        self._tell_some()
        self._stopping.wait(_BACK_OFF_S[min(self._tries, len(_BACK_OFF_S) - 1)])
        self._tries += 1

    def _wait_muted(self) -> None:
        self._reason = "muted"
        self._close()
        self._break("muted", self._clock.monotonic_ns())
        self._tell_some()
        self._stopping.wait(0.1)

    def _close(self) -> None:
        self._source.close()
        self._is_open = False

    def _tell_some(self) -> None:
        """While sound is missing, tell the part that is certain, at growing intervals."""
        if self._outage is None:
            return
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._outage.due_ns:
            self._outage.pieces += 1
            interval_s = _PIECES_S[min(self._outage.pieces, len(_PIECES_S) - 1)]
            self._outage.due_ns = now_ns + int(interval_s * 1e9)
            self._tell(now_ns - _LATEST_NS)

    def _tell(self, until_ns: int) -> None:
        outage = self._outage
        if outage is None or until_ns <= outage.told_ns:
            return
        duration_ms = (until_ns - outage.told_ns) / 1e6
        self._ring.gap(Gap(start_ns=outage.told_ns, duration_ms=duration_ms, cause=outage.cause))
        outage.told_ns = until_ns
