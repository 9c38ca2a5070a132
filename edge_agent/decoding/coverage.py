"""Which speech no word accounts for. Pure.

A decoder that skips a phrase leaves a hole: loud sound between the words' times. Loudness is judged from
the features, so that it costs nothing and needs no voice detector; a cough in a pause looks the same, so a
hole only asks for a second look.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.decoding.features import FRAMES_PER_SECOND, Mel
from edge_agent.types import Word

_BELOW_LOUD = 0.5
"""20 dB in feature units (a unit is 40 dB): quieter than that against the loud frames is no speech."""
_LOUD_SHARE = 95
_BRIDGED_FRAMES = 15
"""Stops and breaths inside speech: shorter pauses do not end a stretch."""
_MARGIN_FRAMES = 20
"""The alignment places a word's edges this roughly."""
_LEAST_WORD_S, _LETTER_S = 0.4, 0.1
"""A word covers no more than this and its letters' share: the one before a hole is stretched over it."""


def speech_spans(mel: Mel) -> list[tuple[int, int]]:
    """Stretches of loud sound in float32[mels, frames], as (first frame, frame after), in order."""
    level = _smooth(mel.max(axis=0))
    loud = level > np.percentile(level, _LOUD_SHARE) - _BELOW_LOUD
    places = np.flatnonzero(loud)
    if not len(places):
        return []
    groups = np.split(places, np.flatnonzero(np.diff(places) > _BRIDGED_FRAMES) + 1)
    return [(int(group[0]), int(group[-1]) + 1) for group in groups]


def unheard_s(mel: Mel, words: Sequence[Word]) -> float:
    """Seconds of the longest stretch of speech outside every word; 0 where the words cover all."""
    open_frames = np.zeros(mel.shape[1], dtype=bool)
    for first, last in speech_spans(mel):
        open_frames[first:last] = True
    for word in words:
        end_s = min(word.end_s, word.start_s + _LEAST_WORD_S + _LETTER_S * len(word.text))
        begin = max(0, round(word.start_s * FRAMES_PER_SECOND) - _MARGIN_FRAMES)
        open_frames[begin : round(end_s * FRAMES_PER_SECOND) + _MARGIN_FRAMES] = False
    edges = np.flatnonzero(np.diff(np.concatenate([[0], open_frames.astype(np.int8), [0]])))
    return float((edges[1::2] - edges[::2]).max()) / FRAMES_PER_SECOND if len(edges) else 0.0


def _smooth(level: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean over 50 ms, so that a click is no speech."""
    if len(level) < 5:
        return level
    return np.convolve(level, np.full(5, 0.2, np.float32), mode="same")
