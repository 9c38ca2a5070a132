"""Where a draft goes on after a wrong token. Pure."""

from __future__ import annotations

from collections.abc import Sequence

_WINDOW_BACK, _WINDOW_AHEAD = 2, 8
"""Where, around the place of a wrong token, the draft is searched for what the engine wrote instead."""


def recycle(written: Sequence[int], draft: Sequence[int], place: int) -> list[int]:
    """The rest of `draft` that goes on after the tokens `written` from `place`; empty when none is found.

    The last two, then the last one, of `written` are looked for in a small window: the sound is the same, so
    a draft that went wrong is right again a few tokens later (SpecASR, arXiv 2507.18181).
    """
    centre = place + len(written)
    for width in (2, 1):
        wanted = list(written[-width:])
        if len(wanted) < width:
            continue
        starts = range(max(0, centre - width - _WINDOW_BACK), min(len(draft), centre + _WINDOW_AHEAD))
        for start in sorted(starts, key=lambda at: abs(at + width - centre)):
            if list(draft[start : start + width]) == wanted:
                return list(draft[start + width :])
    return []


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix."""
    length = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        length += 1
    return length
