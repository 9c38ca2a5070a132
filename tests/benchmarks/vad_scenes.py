"""Sound with known speech, for judging what the live path hears: python -m tests.benchmarks.vad_recall."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from edge_agent.audio.files import audio_info, read_audio
from edge_agent.text.packing import Rules, speech_spans
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, PcmFloat
from edge_agent.verbs.recordings import speech_probabilities
from tests.corpus import Clip, clips

READ = (
    "en_read_kathleen",
    "en_read_ljspeech",
    "en_read_misc",
    "en_commands_azure",
    "commands_multilingual_rhino",
    "zh_read_aishell_S0150",
    "de_read_kerstin",
)
TELEPHONE = ("tel8k_en_asterisk", "tel8k_es_asterisk", "tel8k_fr_asterisk")
ROOMS_DBFS = (-65.0, -55.0, -45.0)
_SPEECH_DBFS = -20.0
_PLAIN = Rules(lead_s=0.0, tail_s=0.0, sure=0.5, pause_s=0.2)
_FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ


@dataclass(frozen=True)
class Spoken:
    """One clip in a scene: samples between which somebody speaks."""

    clip: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Scene:
    """What a microphone might deliver, and what is said in it."""

    condition: str
    sound: PcmFloat
    spoken: tuple[Spoken, ...]


def scenes(half: int | None = None) -> Iterator[Scene]:
    """All scenes.

    Args:
        half: only every other clip, the even (0) or the odd (1) ones, to choose on one half and judge on the
            other; None: all clips.
    """
    read = _pick(READ, half)
    for room_dbfs in ROOMS_DBFS:
        for gains, name in (((0, -12), "0/-12 dB"), ((0, -24), "0/-24 dB")):
            yield from _talks(f"voices {name}, room {room_dbfs:.0f}", read, gains, room_dbfs)
    yield from _talks("telephone 8 kHz, room -55", _pick(TELEPHONE, half), (0,), -55.0)
    for name, sets in (("digits", ("en_digits_fsdd_8k",)), ("Mandarin words", ("zh_words_hsk",))):
        for room_dbfs in ROOMS_DBFS:
            yield from _talks(f"{name}, room {room_dbfs:.0f}", _pick(sets, half), (0,), room_dbfs)
    yield from _talks("noisy 0-10 dB, room -45", _pick(("en_noisy",), half), (0,), -45.0)
    yield from _talks("far field, room -45", _pick(("en_farfield",), half), (0, -12), -45.0)
    for clip in _pick(
        (*READ, *TELEPHONE, "en_digits_fsdd_8k", "zh_words_hsk", "en_noisy", "en_farfield"), half
    ):
        yield _alone(clip)
    if half != 0:
        yield from _channels()


def silences(half: int | None = None) -> Iterator[Scene]:
    """Scenes in which nobody speaks: recordings, and rooms of an hour's variety."""
    for clip in _pick(("nonspeech",), half):
        sound = read_audio(clip.path)
        yield Scene(
            f"nonspeech: {clip.id}", np.concatenate([sound, np.zeros(SAMPLE_RATE_HZ, np.float32)]), ()
        )
    for number in range(1, 6):
        if half in {None, number % 2}:
            for level_dbfs in (-60.0, -45.0, -30.0):
                yield Scene(
                    f"minute of noise {level_dbfs:.0f}", _room(number, 60 * SAMPLE_RATE_HZ, level_dbfs), ()
                )
    rng = np.random.default_rng(5 + (half or 0))
    for level_dbfs in (-60.0, -40.0):
        sound = _room(2, 60 * SAMPLE_RATE_HZ, level_dbfs)
        for at in rng.integers(0, len(sound) - 8000, 40):
            length = int(rng.integers(100, 2400))
            knock = rng.standard_normal(length) * np.exp(-np.arange(length) / (length / 4))
            sound[at : at + length] += (knock * 10 ** (rng.uniform(-40, -15) / 20)).astype(np.float32)
        yield Scene(f"minute of knocks in a room of {level_dbfs:.0f}", sound, ())


def _pick(sets: tuple[str, ...], half: int | None) -> list[Clip]:
    found = [clip for name in sets for clip in clips(set=name)]
    return [clip for number, clip in enumerate(found) if half is None or number % 2 == half]


def _talks(condition: str, found: list[Clip], gains: tuple[int, ...], room_dbfs: float) -> Iterator[Scene]:
    """The clips in turn, each at its gain, 1 to 4 s apart, six to twelve to a scene, in one room's tone."""
    rng = np.random.default_rng(len(found))
    order = [found[number] for number in rng.permutation(len(found))]
    for first in range(0, len(order), 10):
        parts, spoken, at = [], [], int(rng.integers(8000, 48_000))
        parts.append(np.zeros(at, np.float32))
        for number, clip in enumerate(order[first : first + 10]):
            gain = 10 ** (gains[number % len(gains)] / 20)
            sound, spans = _levelled(clip)
            parts.append(sound * np.float32(gain))
            spoken.append(Spoken(clip.id, tuple((at + a, at + b) for a, b in spans)))
            pause = int(rng.integers(1, 4) * SAMPLE_RATE_HZ + rng.integers(0, 512))
            parts.append(np.zeros(pause, np.float32))
            at += len(sound) + pause
        whole = np.concatenate(parts)
        yield Scene(condition, whole + _room(1 + (first // 10) % 5, len(whole), room_dbfs), tuple(spoken))


def _alone(clip: Clip) -> Scene:
    """A clip as a file of its own: its sound begins at once, digital silence follows."""
    sound, spans = read_audio(clip.path), reference(clip)
    after = np.zeros(SAMPLE_RATE_HZ, np.float32)
    kind = {"en_digits_fsdd_8k": "digits", "zh_words_hsk": "Mandarin words"}.get(clip.set, "sentences")
    return Scene(f"{kind}, a file each", np.concatenate([sound, after]), (Spoken(clip.id, spans),))


def _channels() -> Iterator[Scene]:
    for clip in clips(set="multichannel"):
        if "noise" not in clip.id:
            for channel in range(audio_info(clip.path).channels):
                sound = read_audio(clip.path, channel)
                spans = tuple(
                    (span.start, span.end)
                    for span in speech_spans(speech_probabilities(sound), len(sound), _PLAIN)
                )
                yield Scene("several channels, each alone", sound, (Spoken(f"{clip.id}/{channel}", spans),))


@cache
def _noise(number: int) -> PcmFloat:
    sound = read_audio(next(clip for clip in clips(set="nonspeech") if clip.id == f"sb_noise{number}").path)
    return np.concatenate([sound, sound[::-1]])  # loops without a click


def _room(number: int, samples: int, level_dbfs: float) -> NDArray[np.float32]:
    """Room tone of recorded noise at a mean level."""
    noise = _noise(number)
    tone = np.resize(noise, samples)
    return np.asarray(tone * (10 ** (level_dbfs / 20) / np.sqrt(np.mean(np.square(noise)))), np.float32)


def _levelled(clip: Clip) -> tuple[PcmFloat, tuple[tuple[int, int], ...]]:
    """The clip with its loud frames at -20 dBFS, and its speech."""
    sound = read_audio(clip.path)
    loud = np.percentile(_levels(sound), 95)
    return np.asarray(sound * (10 ** (_SPEECH_DBFS / 20) / max(loud, 1e-5)), np.float32), reference(clip)


@cache
def _by_id() -> dict[str, Clip]:
    return {clip.id: clip for clip in clips()}


_references: dict[str, tuple[tuple[int, int], ...]] = {}


def reference(clip: Clip) -> tuple[tuple[int, int], ...]:
    """Samples between which somebody speaks, judged on the clean clip.

    A single word is where the sound is within 30 dB of its loudest frame: the model that is on trial here
    does not always find it.
    """
    source = clip.fields.get("source")
    clean = source.get("derived_from") if isinstance(source, dict) else None
    if isinstance(clean, str) and clean in _by_id():
        return reference(_by_id()[clean])
    if clip.id not in _references:
        sound = read_audio(clip.path)
        single = clip.set in {"en_digits_fsdd_8k", "zh_words_hsk"}
        found = () if single else speech_spans(speech_probabilities(sound), len(sound), _PLAIN)
        _references[clip.id] = tuple((span.start, span.end) for span in found) or _loud(sound)
    return _references[clip.id]


def _loud(sound: PcmFloat) -> tuple[tuple[int, int], ...]:
    levels = _levels(sound)
    voiced = np.flatnonzero(levels > levels.max() * 10 ** (-30 / 20))
    return ((int(voiced[0]) * FRAME_SAMPLES, min(len(sound), (int(voiced[-1]) + 1) * FRAME_SAMPLES)),)


def _levels(sound: PcmFloat) -> NDArray[np.float32]:
    frames = sound[: max(FRAME_SAMPLES, len(sound) // FRAME_SAMPLES * FRAME_SAMPLES)]
    padded = np.resize(frames, (max(1, len(frames) // FRAME_SAMPLES), FRAME_SAMPLES))
    return np.asarray(np.sqrt(np.square(padded).mean(axis=1)), np.float32)
