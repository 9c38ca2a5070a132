"""A bounded ring of sound between the thread that reads the device and the thread that cuts utterances.

The order of samples and gaps is kept. When the reader is too slow the oldest sound is dropped and a Gap with
cause "overload" takes its place, so that what the reader gets always adds up to the time that passed.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.audio.source import EndOfAudio
from edge_agent.types import Gap, Pcm16, Value

_WAIT_S = 0.5  # longest single wait; a lost wake-up costs this much and no more
_FORMAT_WAIT_S = 1.0  # time the reader gets to empty the ring before its format changes


class Chunk(Value, frozen=True):
    """Sound taken out of the ring."""

    pcm: Any
    """Pcm16 int16[frames, channels], valid until the next read."""
    start_ns: int
    rate_hz: int

    @property
    def end_ns(self) -> int:
        """Monotonic time just after the last frame."""
        return self.start_ns + len(self.pcm) * 1_000_000_000 // self.rate_hz


@dataclass(slots=True)
class _Span:
    """Frames without a break: `anchor_frame` was captured at `anchor_ns`; open while `end` is None."""

    first: int
    anchor_frame: int
    anchor_ns: int
    end: int | None = None


class Ring:
    """One writer, one reader. All waits have time-outs; memory is fixed per format."""

    def __init__(self, *, seconds: float = 8.0) -> None:
        self._seconds = seconds
        self._changed = threading.Condition()
        self._items: deque[_Span | Gap] = deque()
        self._rate = 16_000
        self._buffer: Pcm16 = np.zeros((0, 1), np.int16)
        self._scratch: Pcm16 = np.zeros((0, 1), np.int16)
        self._head = 0
        self._tail = 0
        self._wanted = 0
        self._closed = False

    # --- writer ---

    def begin(self, *, rate_hz: int, channels: int, start_ns: int) -> None:
        """Start a stretch of unbroken sound whose first frame is at `start_ns`."""
        with self._changed:
            self._end_span()
            if rate_hz != self._rate or self._buffer.shape != (int(rate_hz * self._seconds), channels):
                self._set_format(rate_hz, channels)
            self._items.append(_Span(self._tail, self._tail, start_ns))

    def wait_room(self, frames: int, timeout_s: float) -> bool:
        """For a writer that can be held back: wait until `frames` fit. False: they do not yet."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._tail - self._head + min(frames, len(self._buffer)) <= len(self._buffer),
                timeout_s,
            )

    def write(self, pcm: Pcm16, start_ns: int) -> int:
        """Append int16[frames, channels]; `start_ns` is the time of its first frame.

        When the ring is full the oldest frames make room. Returns the number of frames dropped.
        """
        frames = len(pcm)
        capacity = len(self._buffer)
        if frames > capacity:
            return self._write_large(pcm, start_ns)
        with self._changed:
            span = self._items[-1] if self._items else None
            if not isinstance(span, _Span) or span.end is not None:
                span = _Span(self._tail, self._tail, start_ns)
                self._items.append(span)
            dropped = max(0, self._tail - self._head + frames - capacity)
            if dropped:
                self._drop(dropped)
            span.anchor_frame, span.anchor_ns = self._tail, start_ns
            _copy_in(self._buffer, self._tail % capacity, pcm)
            self._tail += frames
            if self._tail - self._head >= self._wanted:
                self._changed.notify_all()
            return dropped

    def gap(self, gap: Gap) -> None:
        """Put lost sound at the present place in the order."""
        with self._changed:
            self._end_span()
            self._items.append(gap)
            self._changed.notify_all()

    def close(self) -> None:
        """No more will be written; the reader may finish what is there."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    # --- reader ---

    def read(self, *, min_s: float, max_s: float = 0.5, timeout_s: float = 0.5) -> Chunk | Gap | None:
        """Sound or a gap, in order; None when less than `min_s` came within the time-out.

        Less than `min_s` is handed out when a gap or the end follows.

        Raises:
            EndOfAudio: closed and empty.
        """
        with self._changed:
            item = self._take(min_s, max_s)
            if item is None:
                self._wanted = int(min_s * self._rate)
                self._changed.wait(min(timeout_s, _WAIT_S))
                item = self._take(min_s, max_s)
            if item is None and self._closed and not self._items:
                raise EndOfAudio
            return item

    def buffered_s(self) -> float:
        """Seconds of sound that wait for the reader."""
        with self._changed:
            return (self._tail - self._head) / self._rate

    # --- with the lock held ---

    def _take(self, min_s: float, max_s: float) -> Chunk | Gap | None:
        while self._items:
            item = self._items[0]
            if isinstance(item, Gap):
                self._items.popleft()
                return item
            end = self._tail if item.end is None else item.end
            ready = end - self._head
            broken = item.end is not None or self._closed
            if ready and (broken or ready >= int(min_s * self._rate)):
                return self._copy_out(item, min(ready, max(1, int(max_s * self._rate))))
            if not broken or ready:
                return None
            self._items.popleft()
        return None

    def _copy_out(self, span: _Span, frames: int) -> Chunk:
        if len(self._scratch) < frames or self._scratch.shape[1] != self._buffer.shape[1]:
            self._scratch = np.zeros((int(self._rate * 0.5) + frames, self._buffer.shape[1]), np.int16)
        out = self._scratch[:frames]
        _copy_from(self._buffer, self._head % len(self._buffer), out)
        chunk = Chunk(pcm=out, start_ns=self._time_ns(span, self._head), rate_hz=self._rate)
        self._head += frames
        self._changed.notify_all()
        return chunk

    def _time_ns(self, span: _Span, frame: int) -> int:
        return span.anchor_ns + (frame - span.anchor_frame) * 1_000_000_000 // self._rate

    def _end_span(self) -> None:
        if self._items and isinstance(last := self._items[-1], _Span) and last.end is None:
            last.end = self._tail

    def _set_format(self, rate_hz: int, channels: int) -> None:
        self._wanted = 0
        self._changed.notify_all()
        self._changed.wait_for(lambda: self._head == self._tail, _FORMAT_WAIT_S)
        if self._head != self._tail:
            self._drop(self._tail - self._head)
        self._rate = rate_hz
        self._buffer = np.zeros((int(rate_hz * self._seconds), channels), np.int16)

    def _drop(self, frames: int) -> None:
        """Replace the oldest `frames`, and the gaps among them, by one gap."""
        target = self._head + frames
        start_ns: int | None = None
        end_ns = 0
        while self._head < target:
            item = self._items[0]
            if isinstance(item, Gap):
                self._items.popleft()
                start_ns = item.start_ns if start_ns is None else start_ns
                end_ns = item.start_ns + round(item.duration_ms * 1e6)
                continue
            stop = min(target, self._tail if item.end is None else item.end)
            start_ns = self._time_ns(item, self._head) if start_ns is None else start_ns
            end_ns = self._time_ns(item, stop)
            self._head = stop
            if item.end == stop:
                self._items.popleft()
        if start_ns is not None:
            lost = Gap(start_ns=start_ns, duration_ms=(end_ns - start_ns) / 1e6, cause="overload")
            self._items.appendleft(lost)

    def _write_large(self, pcm: Pcm16, start_ns: int) -> int:
        step = max(1, len(self._buffer) // 2)
        dropped = 0
        for first in range(0, len(pcm), step):
            at_ns = start_ns + first * 1_000_000_000 // self._rate
            dropped += self.write(pcm[first : first + step], at_ns)
        return dropped


def _copy_in(buffer: Pcm16, at: int, pcm: Pcm16) -> None:
    first = min(len(pcm), len(buffer) - at)
    buffer[at : at + first] = pcm[:first]
    buffer[: len(pcm) - first] = pcm[first:]


def _copy_from(buffer: Pcm16, at: int, out: Pcm16) -> None:
    first = min(len(out), len(buffer) - at)
    out[:first] = buffer[at : at + first]
    out[first:] = buffer[: len(out) - first]
