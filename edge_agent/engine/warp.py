"""Dynamic time warping of attention: which encoder positions belong to which token. Pure numpy.

As the reference does it (Radford et al. 2022, word timestamps): the alignment heads' attention, each column
normalised over the tokens, smoothed by a median of seven positions, averaged over the heads; then the
cheapest monotonic path.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MEDIAN_WIDTH = 7


def align(attention: NDArray[np.float32], positions: int) -> tuple[tuple[int, int], ...]:
    """(token index, position) pairs, both rising.

    Args:
        attention: float32[heads, tokens, all positions], each row sums to 1.
        positions: how many of them hold sound.
    """
    heard = attention[:, :, : max(1, positions)].astype(np.float32)
    heard /= np.maximum(heard.sum(axis=-1, keepdims=True), 1e-12)
    spread = heard.std(axis=1, keepdims=True)
    heard = (heard - heard.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-8)
    return _path(-_smoothed(heard).mean(axis=0))


def _smoothed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    half = _MEDIAN_WIDTH // 2
    if values.shape[-1] <= half:
        return values
    padded = np.pad(values, ((0, 0), (0, 0), (half, half)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, _MEDIAN_WIDTH, axis=-1)
    return np.asarray(np.median(windows, axis=-1), dtype=np.float32)


def _path(cost: NDArray[np.float32]) -> tuple[tuple[int, int], ...]:
    """Cheapest path through float32[tokens, positions] by steps right, down or both.

    Cells of one anti-diagonal do not depend on each other, so each is one array operation.
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf, dtype=np.float32)
    total[0, 0] = 0.0
    came = np.zeros((rows + 1, columns + 1), dtype=np.int8)
    for diagonal in range(2, rows + columns + 1):
        i = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        j = diagonal - i
        both, down, right = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
        # A tie goes right, as in the reference.
        step = np.where((both < down) & (both < right), 0, np.where((down < both) & (down < right), 1, 2))
        total[i, j] = cost[i - 1, j - 1] + np.choose(step, (both, down, right))
        came[i, j] = step
    path: list[tuple[int, int]] = []
    i_at, j_at = rows, columns
    while i_at > 0 and j_at > 0:
        path.append((i_at - 1, j_at - 1))
        step_back = int(came[i_at, j_at])
        i_at -= step_back != 2
        j_at -= step_back != 1
    return tuple(reversed(path))
