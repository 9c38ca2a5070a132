"""From ring to utterances, with the real voice activity model and real speech."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.audio.cutter import Callbacks, Cutter
from edge_agent.audio.ears import Ears
from edge_agent.audio.files import read_audio
from edge_agent.audio.recording import FileSource
from edge_agent.audio.ring import Ring
from edge_agent.audio.segment import EndpointConfig
from edge_agent.clock import SystemClock
from edge_agent.errors import CaptureError
from edge_agent.types import Gap, PcmFloat, Utterance
from tests.corpus import Clip, clips


class Listener:
    """A cutter that remembers what it told."""

    def __init__(
        self, ring: Ring, config: EndpointConfig | None = None, use_channels: tuple[int, ...] = ()
    ) -> None:
        self.utterances: list[Utterance] = []
        self.gaps: list[Gap] = []
        self.told: list[tuple[str, int]] = []
        self.pauses: list[Utterance] = []
        self.cutter = Cutter(
            ring,
            clock=SystemClock(),
            config=config or EndpointConfig(),
            use_channels=use_channels,
            callbacks=Callbacks(
                on_utterance=self._utterance,
                on_gap=self._gap,
                on_started=lambda channel, _start_ns: self.told.append(("started", channel)),
                on_paused=self._paused,
                on_resumed=lambda channel: self.told.append(("resumed", channel)),
            ),
        )

    def _utterance(self, utterance: Utterance) -> None:
        self.utterances.append(utterance)
        self.told.append(("utterance", utterance.channel))

    def _gap(self, gap: Gap) -> None:
        self.gaps.append(gap)
        self.told.append(("gap", gap.channel))

    def _paused(self, channel: int, snapshot: Utterance) -> None:
        self.pauses.append(snapshot)
        self.told.append(("paused", channel))

    def finish(self) -> None:
        assert self.cutter.join(30)
        assert self.cutter.failure is None


def hear(paths: list[Path], config: EndpointConfig | None = None, gap_s: float = 1.0) -> Listener:
    """Recordings through ears, ring and cutter, as fast as they go."""
    clock = SystemClock()
    ring = Ring()
    listener = Listener(ring, config)
    ears = Ears(FileSource(paths, clock=clock, gap_s=gap_s, paced=False), ring, clock=clock)
    listener.cutter.start()
    ears.start()
    assert ears.join(60)
    assert ears.failure is None
    listener.finish()
    return listener


def put(ring: Ring, sound: PcmFloat, start_ns: int = 0) -> None:
    """Sound into a ring by hand, 100 ms at a time, held back while it is full."""
    pcm = np.rint(sound * 32767).astype(np.int16)
    pcm = pcm[:, None] if pcm.ndim == 1 else pcm
    for first in range(0, len(pcm), 1600):
        assert ring.wait_room(1600, 5.0)
        ring.write(pcm[first : first + 1600], start_ns + first * 62_500)


@pytest.fixture(scope="module")
def sentence() -> PcmFloat:
    """One sentence of two to four seconds."""
    return read_audio(sentences(1)[0].path)


def sentences(count: int) -> list[Clip]:
    found = [clip for clip in clips(language="en") if 2.0 < clip.duration_s < 4.0]
    return found[:count]


def test_each_sentence_is_one_utterance_with_an_id_of_its_own() -> None:
    """Recordings with silence between them come out one by one, as long as their speech, in order."""
    chosen = sentences(6)
    listener = hear([clip.path for clip in chosen])
    assert len(listener.utterances) == len(chosen)
    assert all(uuid.UUID(utterance.id).version == 7 for utterance in listener.utterances)
    assert len({utterance.id for utterance in listener.utterances}) == len(chosen)
    for utterance, clip in zip(listener.utterances, chosen, strict=True):
        assert utterance.pcm.dtype == np.float32
        assert clip.duration_s - 1.5 < utterance.duration_s < clip.duration_s + 0.6
        assert utterance.cut == "silence"
        assert 0 < (utterance.speech_end_ns - utterance.start_ns) / 1e9 <= utterance.duration_s
    starts = [utterance.start_ns for utterance in listener.utterances]
    assert starts == sorted(starts)
    assert [utterance.start_utc_ms for utterance in listener.utterances] == sorted(
        utterance.start_utc_ms for utterance in listener.utterances
    )


def test_short_words_are_kept() -> None:
    """Isolated digits and one-word clips, a fraction of a second each: at most one in sixty is missed."""
    words = clips(set="en_digits_fsdd_8k") + clips(set="wakeword")
    listener = hear([clip.path for clip in words])
    assert len(listener.utterances) >= len(words) - max(1, len(words) // 60)


def test_the_first_syllable_is_not_clipped(sentence: PcmFloat) -> None:
    """From silence into speech: nearly all of the sentence's energy is in the utterance."""
    ring = Ring()
    ring.begin(rate_hz=16_000, channels=1, start_ns=0)
    listener = Listener(ring)
    listener.cutter.start()
    put(ring, np.concatenate((np.zeros(16_000, np.float32), sentence, np.zeros(16_000, np.float32))))
    ring.close()
    listener.finish()
    energy = sum(float(np.sum(utterance.pcm**2)) for utterance in listener.utterances)
    assert energy > 0.995 * float(np.sum(sentence**2))


def test_silence_and_noise_are_not_speech() -> None:
    """A minute of silence, of hiss and of hum makes no utterance."""
    rng = np.random.default_rng(7)
    time_s = np.arange(60 * 16_000) / 16_000
    for sound in (
        np.zeros(60 * 16_000, np.float32),
        (rng.standard_normal(60 * 16_000) * 0.01).astype(np.float32),
        (0.05 * np.sin(2 * np.pi * 50 * time_s)).astype(np.float32),
    ):
        ring = Ring()
        ring.begin(rate_hz=16_000, channels=1, start_ns=0)
        listener = Listener(ring)
        listener.cutter.start()
        put(ring, sound)
        ring.close()
        listener.finish()
        assert listener.utterances == []
        assert listener.cutter.statistics().heard_s == pytest.approx(60)


def test_real_noise_and_music_rarely_pass_for_speech() -> None:
    """Of the recordings without speech, nine in ten make no utterance."""
    noises = clips(set="nonspeech")
    if not noises:
        pytest.skip("this corpus has no recordings without speech")
    listener = hear([clip.path for clip in noises])
    assert len(listener.utterances) <= len(noises) // 10 + 1
    assert sum(utterance.duration_s for utterance in listener.utterances) < 5


def test_a_gap_ends_the_utterance_and_what_follows_is_another(sentence: PcmFloat) -> None:
    """The words so far are told first, then the gap, then the rest under another id."""
    ring = Ring()
    ring.begin(rate_hz=16_000, channels=1, start_ns=0)
    listener = Listener(ring)
    listener.cutter.start()
    half = len(sentence) // 2
    put(ring, sentence[:half])
    half_ns = half * 62_500
    ring.gap(Gap(start_ns=half_ns, duration_ms=1_000, cause="unplug"))
    ring.begin(rate_hz=16_000, channels=1, start_ns=half_ns + 1_000_000_000)
    put(ring, np.concatenate((sentence[half:], np.zeros(16_000, np.float32))), half_ns + 1_000_000_000)
    ring.close()
    listener.finish()
    order = [what for what, _ in listener.told if what in {"utterance", "gap"}]
    assert order[:2] == ["utterance", "gap"]
    first, second = listener.utterances[0], listener.utterances[1]
    assert (first.cut, second.cut) == ("gap", "silence")
    assert first.id != second.id
    assert second.start_ns >= half_ns + 1_000_000_000
    statistics = listener.cutter.statistics()
    assert statistics.gap_s_by_cause == {"unplug": 1.0}
    assert statistics.heard_s == pytest.approx((len(sentence) + 16_000) / 16_000, abs=0.001)


def test_another_sample_rate_keeps_the_times(sentence: PcmFloat) -> None:
    """At 48 kHz the utterance starts at the same time as at 16 kHz, though the resampler answers late."""
    import soxr

    starts = []
    for rate_hz in (16_000, 48_000):
        ring = Ring()
        ring.begin(rate_hz=rate_hz, channels=1, start_ns=1_000)
        listener = Listener(ring)
        listener.cutter.start()
        sound = np.concatenate((np.zeros(16_000, np.float32), sentence, np.zeros(16_000, np.float32)))
        sound = sound if rate_hz == 16_000 else soxr.resample(sound, 16_000, rate_hz)
        pcm = np.rint(sound * 32767).astype(np.int16)[:, None]
        for first in range(0, len(pcm), 1600):
            assert ring.wait_room(1600, 5.0)
            ring.write(pcm[first : first + 1600], 1_000 + first * 1_000_000_000 // rate_hz)
        ring.close()
        listener.finish()
        starts.append(listener.utterances[0].start_ns)
    assert abs(starts[0] - starts[1]) <= 32_000_000  # one frame: the choice of the frame may differ


def test_two_channels_are_two_streams(sentence: PcmFloat) -> None:
    """Each used channel has its own utterances; an unused one has none."""
    ring = Ring()
    ring.begin(rate_hz=16_000, channels=3, start_ns=0)
    listener = Listener(ring, use_channels=(2, 0))
    listener.cutter.start()
    quiet = np.zeros(len(sentence), np.float32)
    pause = np.zeros((16_000, 3), np.float32)
    put(ring, np.concatenate((np.stack((quiet, sentence, sentence), 1), pause)))
    ring.close()
    listener.finish()
    assert {utterance.channel for utterance in listener.utterances} == {0}
    assert listener.cutter.level(1).peak_dbfs == -120.0


def test_a_pause_shows_the_utterance_as_it_will_be(sentence: PcmFloat) -> None:
    """The last snapshot before the end has the id and the very sound of the final."""
    ring = Ring()
    ring.begin(rate_hz=16_000, channels=1, start_ns=0)
    listener = Listener(ring)
    listener.cutter.start()
    put(ring, np.concatenate((sentence, np.zeros(16_000, np.float32))))
    ring.close()
    listener.finish()
    final, pause = listener.utterances[-1], listener.pauses[-1]
    assert pause.id == final.id
    assert np.array_equal(pause.pcm, final.pcm)
    assert pause.speech_end_ns == final.speech_end_ns


def test_snapshots_grow_while_somebody_speaks(sentence: PcmFloat) -> None:
    """From another thread: None in silence, then ever more of one utterance, all with the final's id."""
    ring = Ring()
    ring.begin(rate_hz=16_000, channels=1, start_ns=0)
    listener = Listener(ring)
    assert listener.cutter.snapshot() is None
    seen: list[Utterance] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if (snapshot := listener.cutter.snapshot()) is not None:
                seen.append(snapshot)
            time.sleep(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    listener.cutter.start()
    for first in range(0, len(sentence), 1600):
        put(ring, sentence[first : first + 1600], first * 62_500)
        time.sleep(0.01)
    put(ring, np.zeros(16_000, np.float32), len(sentence) * 62_500)
    ring.close()
    listener.finish()
    done.set()
    watcher.join()
    final = listener.utterances[0]
    mine = [snapshot for snapshot in seen if snapshot.id == final.id]
    assert len(mine) > 3
    lengths = [len(snapshot.pcm) for snapshot in mine]
    assert lengths == sorted(lengths)
    shared = min(lengths[0], len(final.pcm))
    assert np.array_equal(mine[-1].pcm[:shared], final.pcm[:shared])


def test_long_talk_is_cut_without_losing_or_doubling_a_sample() -> None:
    """Reading without an end: the utterances do not overlap, and between them is nothing but silence."""
    talk = read_audio(sentences(1)[0].path)
    voiced = np.tile(talk[8_000:-8_000], 6)
    ring = Ring()
    ring.begin(rate_hz=16_000, channels=1, start_ns=0)
    listener = Listener(ring, EndpointConfig(max_utterance_s=4, silence_ms=2_000, probe_ms=0))
    listener.cutter.start()
    put(ring, voiced)
    ring.close()
    listener.finish()
    assert len(listener.utterances) >= 2
    assert all(utterance.duration_s <= 4.05 for utterance in listener.utterances)
    assert {utterance.cut for utterance in listener.utterances[:-1]} == {"max_length"}
    given = np.rint(voiced * 32767).astype(np.int16) / np.float32(32768)
    end = 0
    lost = given.copy()
    for utterance in listener.utterances:
        first = round(utterance.start_ns / 62_500)
        assert first >= end
        end = first + len(utterance.pcm)
        there = given[first:end]
        assert np.array_equal(utterance.pcm[: len(there)], there)
        lost[first:end] = 0
    assert np.sum(lost**2) < 0.002 * np.sum(
        given**2
    )  # pauses at a cut, and the frame in which the sound ends


@pytest.fixture
def speaking(sentence: PcmFloat) -> Iterator[tuple[Ring, Listener]]:
    """A cutter in the middle of a sentence."""
    ring = Ring()
    ring.begin(rate_hz=16_000, channels=1, start_ns=0)
    listener = Listener(ring)
    listener.cutter.start()
    put(ring, sentence[: len(sentence) // 2])
    deadline = time.monotonic() + 10
    while ("started", 0) not in listener.told:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield ring, listener
    ring.close()
    listener.finish()


def test_stop_publishes_what_is_open(speaking: tuple[Ring, Listener]) -> None:
    """The utterance in progress is told with cut stop, at once."""
    _, listener = speaking
    listener.cutter.stop()
    listener.finish()
    assert [utterance.cut for utterance in listener.utterances] == ["stop"]


def test_flush_publishes_what_is_open_and_goes_on(
    speaking: tuple[Ring, Listener], sentence: PcmFloat
) -> None:
    """After a flush the rest of the sentence is another utterance that begins where the first ended."""
    ring, listener = speaking
    listener.cutter.flush()
    half = len(sentence) // 2
    deadline = time.monotonic() + 10
    while not listener.utterances:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    put(ring, np.concatenate((sentence[half:], np.zeros(16_000, np.float32))), half * 62_500)
    ring.close()
    listener.finish()
    one, two = listener.utterances[0], listener.utterances[1]
    assert (one.cut, two.cut) == ("stop", "silence")
    assert two.start_ns >= one.speech_end_ns


def test_a_device_without_the_wanted_channel_is_one_clear_line() -> None:
    """Channel 1 of a mono microphone: said with the keys to correct."""
    ring = Ring()
    ring.begin(rate_hz=16_000, channels=1, start_ns=0)
    listener = Listener(ring, use_channels=(0, 1))
    listener.cutter.start()
    put(ring, np.zeros(3_200, np.float32))
    assert listener.cutter.join(10)
    assert isinstance(listener.cutter.failure, CaptureError)
    assert "audio.use_channels" in str(listener.cutter.failure)


def test_a_cutter_that_is_held_up_admits_what_it_lost(sentence: PcmFloat) -> None:
    """A slow consumer overflows the ring: the oldest sound becomes an overload gap, and all adds up."""
    ring = Ring(seconds=1.0)
    ring.begin(rate_hz=16_000, channels=1, start_ns=0)
    held, go = threading.Event(), threading.Event()
    gaps: list[Gap] = []

    def hold(_channel: int, _start_ns: int) -> None:
        held.set()
        assert go.wait(10)

    callbacks = Callbacks(on_utterance=lambda _utterance: None, on_gap=gaps.append, on_started=hold)
    cutter = Cutter(ring, clock=SystemClock(), config=EndpointConfig(), callbacks=callbacks, first_channel=5)
    cutter.start()
    pcm = np.rint(np.concatenate((sentence, sentence)) * 32767).astype(np.int16)[:, None]
    for first in range(0, len(pcm), 1600):
        ring.write(pcm[first : first + 1600], first * 62_500)
        if first == 16_000:
            assert held.wait(10)
    go.set()
    ring.close()
    assert cutter.join(10)
    assert {(gap.cause, gap.channel) for gap in gaps} == {("overload", 5)}
    statistics = cutter.statistics()
    assert statistics.gap_s > 1
    assert statistics.heard_s + statistics.gap_s == pytest.approx(len(pcm) / 16_000, abs=0.001)


def test_a_callback_that_fails_is_seen(sentence: PcmFloat) -> None:
    """The thread ends and keeps the reason for the supervisor."""
    ring = Ring()
    ring.begin(rate_hz=16_000, channels=1, start_ns=0)

    def fail(_utterance: Utterance) -> None:
        raise ValueError("no room")

    callbacks = Callbacks(on_utterance=fail, on_gap=lambda _gap: None)
    cutter = Cutter(ring, clock=SystemClock(), config=EndpointConfig(), callbacks=callbacks)
    cutter.start()
    put(ring, np.concatenate((sentence, np.zeros(16_000, np.float32))))
    assert cutter.join(10)
    assert isinstance(cutter.failure, ValueError)
