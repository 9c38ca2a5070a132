"""The endpoint waits for its silence and for nothing else, whatever periods the device has."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from edge_agent.audio.cutter import Callbacks, Cutter
from edge_agent.audio.files import read_audio
from edge_agent.audio.recording import FileSource
from edge_agent.audio.ring import Chunk, Ring
from edge_agent.audio.segment import EndpointConfig
from edge_agent.audio.source import EndOfAudio
from edge_agent.clock import SystemClock
from edge_agent.types import FRAME_SAMPLES, Utterance
from tests.corpus import clips

SILENCE_MS = 600
FRAME_MS = 32


class Device(Ring):
    """Gives as few whole periods as hold what is asked for: the soonest that a real device could."""

    def __init__(self, pcm: np.ndarray, rate_hz: int, period_ms: int) -> None:
        super().__init__()
        self.pcm, self.rate_hz, self.period = pcm, rate_hz, rate_hz * period_ms // 1000
        self.given = 0

    @property
    def given_ns(self) -> int:
        return self.given * 1_000_000_000 // self.rate_hz

    def read(self, *, min_s: float, max_s: float = 0.5, timeout_s: float = 0.5) -> Chunk:
        wanted = max(1, -(-round(min_s * self.rate_hz) // self.period)) * self.period
        pcm, start_ns = self.pcm[self.given : self.given + wanted], self.given_ns
        if not len(pcm):
            raise EndOfAudio
        self.given += len(pcm)
        return Chunk(pcm=pcm, start_ns=start_ns, rate_hz=self.rate_hz)


@pytest.mark.parametrize(
    ("rate_hz", "period_ms", "late_ms"),
    [(16_000, 32, 0), (16_000, 20, 20), (16_000, 10, 10), (48_000, 32, 2), (48_000, 10, 12), (8_000, 32, 4)],
)
def test_a_sentence_ends_as_soon_as_its_silence_was_heard(rate_hz: int, period_ms: int, late_ms: int) -> None:
    """Frames are 32 ms, so 608 ms of silence; then at most the rest of a period and of the resampler."""
    sentence = read_audio(next(c for c in clips(set="en_read_kathleen") if 1.8 < c.duration_s < 3.0).path)
    sound = np.concatenate((sentence, np.zeros(32_000, np.float32)))
    if rate_hz != 16_000:
        sound = np.asarray(soxr.resample(sound, 16_000, rate_hz), np.float32)
    device = Device(np.rint(sound * 32_000).astype(np.int16)[:, None], rate_hz, period_ms)
    waited_ms = []

    def ended(utterance: Utterance) -> None:
        waited_ms.append((device.given_ns - utterance.speech_end_ns) / 1e6)

    cutter = Cutter(
        device,
        clock=SystemClock(),
        config=EndpointConfig(silence_ms=SILENCE_MS),
        callbacks=Callbacks(on_utterance=ended, on_gap=lambda _gap: None),
    )
    cutter.start()
    assert cutter.join(60)
    assert cutter.failure is None
    frames_ms = -(-SILENCE_MS // FRAME_MS) * FRAME_MS
    assert all(frames_ms - 1 <= waited <= frames_ms + late_ms for waited in waited_ms), waited_ms
    assert waited_ms


def test_recordings_come_in_the_periods_of_a_device() -> None:
    """Where one file ends and the next begins no block is shorter, so that no frame waits for another one."""
    paths = [clip.path for clip in clips(set="en_read_kathleen") if clip.duration_s < 2.5][:3]
    source = FileSource(paths, clock=SystemClock(), gap_s=0.01, paced=False)
    source.open()
    lengths = []
    try:
        while True:
            block = source.read(1.0)
            assert block is not None
            lengths.append(len(block.pcm))
    except EndOfAudio:
        source.close()
    assert {length % FRAME_SAMPLES for length in lengths[:-1]} == {0}
    assert sum(lengths) == sum(len(read_audio(path)) + 160 for path in paths)
