"""Dynamic time warping of attention: which encoder positions belong to which token. Pure numpy.

As the reference does it (Radford et al. 2022, word timestamps): the alignment heads' attention, each column
normalised over the tokens, smoothed by a median of seven positions, averaged over the heads; then the
cheapest monotonic path.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MEDIAN_WIDTH = 7
_MEDIAN_NETWORK = (
    (0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6), (2, 3), (3, 6), (4, 5), (1, 4), (1, 3), (3, 4)
)  # fmt: skip
"""Exchanges that leave the median of seven in the middle (Devillard 1998, "Fast median search")."""


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
    """Running median of seven along the last axis."""
    half = _MEDIAN_WIDTH // 2
    if values.shape[-1] <= half:
        return values
    padded = np.pad(values, ((0, 0), (0, 0), (half, half)), mode="reflect")
    length = values.shape[-1]
    lanes = [padded[..., place : place + length] for place in range(_MEDIAN_WIDTH)]
    for low, high in _MEDIAN_NETWORK:
        lanes[low], lanes[high] = np.minimum(lanes[low], lanes[high]), np.maximum(lanes[low], lanes[high])
    return lanes[half]


def _path(cost: NDArray[np.float32]) -> tuple[tuple[int, int], ...]:
    """Cheapest path through float32[tokens, positions] by steps right, down or both.

    A row is one array operation: what a cell costs when its row is entered at k is the least total above k,
    plus the row's costs from k on, and those are differences of one running sum.
    """
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for row in range(1, rows + 1):
        sums = np.concatenate([[0.0], np.cumsum(cost[row - 1], dtype=np.float64)])
        entered = np.minimum(total[row - 1, :-1], total[row - 1, 1:]) - sums[:-1]
        total[row, 1:] = np.minimum.accumulate(entered) + sums[1:]
    cells = total.tolist()
    path: list[tuple[int, int]] = []
    row, column = rows, columns
    while row > 0 and column > 0:
        path.append((row - 1, column - 1))
        both, down, right = cells[row - 1][column - 1], cells[row - 1][column], cells[row][column - 1]
        # A tie goes right, as in the reference.
        goes_down = down < both and down < right
        goes_both = both < down and both < right
        row -= goes_down or goes_both
        column -= not goes_down
    return tuple(reversed(path))
