"""What others take for the same recordings, live: from the end of the silence window to their transcript."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from edge_agent.audio.vad import Vad
from edge_agent.bench import wyoming
from edge_agent.bench.live import percentile
from edge_agent.bench.peer import FasterWhisper
from edge_agent.types import FRAME_SAMPLES, SAMPLE_RATE_HZ, PcmFloat, Value

_SPEECH = 0.5

Speak = Callable[[PcmFloat], wyoming.Answer]
"""Sound up to the end of the silence window, float32[samples]: the answer."""


class PeerUtterance(Value, frozen=True):
    """Of one recording; milliseconds."""

    file: str
    text: str
    final_beyond_silence_ms: float
    first_partial_ms: float | None
    """From the start of speech; None when there are no words before the final."""


class PeerFigures(Value, frozen=True):
    """Of all recordings."""

    name: str
    utterances: tuple[PeerUtterance, ...]
    speech_s: float
    cpu_s: float | None
    """None: it runs elsewhere."""
    rss_mb: float | None


def measure(
    name: str,
    recordings: Sequence[tuple[Path, PcmFloat]],
    speak: Speak,
    *,
    silence_ms: float,
    cpu_s: Callable[[], float] | None = None,
    rss_mb: Callable[[], float] | None = None,
) -> PeerFigures:
    """Play the recordings to a peer, each up to `silence_ms` after its last word, as an endpoint would.

    Args:
        name: of the peer.
        recordings: float32[samples] at 16 kHz each.
        speak: plays one.
        silence_ms: the endpoint's window.
        cpu_s: seconds of CPU the peer has used so far.
        rss_mb: memory the peer holds.
    """
    parts = [(path, *_speech(pcm)) for path, pcm in recordings]
    silence = np.zeros(int(silence_ms * SAMPLE_RATE_HZ / 1000), np.float32)
    speak(np.concatenate((parts[0][1], silence)))  # the first one loads its model
    before = cpu_s() if cpu_s is not None else 0.0
    found = []
    for path, sound, begin_s in parts:
        answer = speak(np.concatenate((sound, silence)))
        first_ms = None if answer.first_ms is None else answer.first_ms - 1e3 * begin_s
        found.append(
            PeerUtterance(
                file=str(path),
                text=answer.text,
                final_beyond_silence_ms=answer.final_ms,
                first_partial_ms=first_ms,
            )
        )
    return PeerFigures(
        name=name,
        utterances=tuple(found),
        speech_s=sum(len(sound) / SAMPLE_RATE_HZ - begin_s for _, sound, begin_s in parts),
        cpu_s=None if cpu_s is None else cpu_s() - before,
        rss_mb=None if rss_mb is None else rss_mb(),
    )


def at_the_end(peer: FasterWhisper, language: str) -> Speak:
    """A peer without a live mode: it begins when the silence window is over."""

    def speak(sound: PcmFloat) -> wyoming.Answer:
        began = time.perf_counter()
        text = peer.transcribe(sound, language)
        return wyoming.Answer(text=text, final_ms=1e3 * (time.perf_counter() - began), first_ms=None)

    return speak


def summary(figures: PeerFigures) -> dict[str, object]:
    """Medians and 95th percentiles; names as in the summary of ours."""
    beyond = [one.final_beyond_silence_ms for one in figures.utterances]
    first = [one.first_partial_ms for one in figures.utterances if one.first_partial_ms is not None]
    cpu_s = figures.cpu_s
    return {
        "name": figures.name,
        "utterances": len(figures.utterances),
        "final_beyond_silence_p50_ms": percentile(beyond, 0.5),
        "final_beyond_silence_p95_ms": percentile(beyond, 0.95),
        "first_partial_p50_ms": percentile(first, 0.5),
        "cpu_s_per_speech_s": None if cpu_s is None else round(cpu_s / max(1e-9, figures.speech_s), 3),
        "rss_mb": None if figures.rss_mb is None else round(figures.rss_mb),
    }


def _speech(pcm: PcmFloat) -> tuple[PcmFloat, float]:
    """The sound up to the end of its last word, and where its first begins, in seconds."""
    vad = Vad()
    speech = [
        first
        for first in range(0, len(pcm) - FRAME_SAMPLES + 1, FRAME_SAMPLES)
        if float(vad.probability(pcm[first : first + FRAME_SAMPLES, None])[0]) >= _SPEECH
    ]
    if not speech:
        return pcm, 0.0
    return pcm[: speech[-1] + FRAME_SAMPLES], speech[0] / SAMPLE_RATE_HZ
