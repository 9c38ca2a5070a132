"""The judge: the decoder once more, with all its logits multiplied.

A scoring pass tells the probability of given tokens, not which token is the best. Above one half a token is
the best, proven; but one in ten of a model's own choices has less. The judge's last layer norm is multiplied
by `SHARPNESS`, and so are all logits: probabilities p become p^16, normalised. The best token then stands
above one half unless another is within 4 % of it, and every other token below. One pass of the judge proves
what would take a continuation for each doubtful token. Its encoder is never run and cut to one layer.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARPNESS = 16.0
DIRECTORY = "judge"
MAX_BYTES = 128 << 20
"""A judge holds the decoder a second time; of larger models none is made, continuations serve there."""

_SCALED = ("decoder/layer_norm/gamma", "decoder/layer_norm/beta")


def wanted(name: str) -> bool:
    """Whether a variable of the model belongs into the judge."""
    return re.match(r"encoder/layer_(?!0/)\d+/", name) is None


def sharpened(name: str, array: NDArray[Any]) -> NDArray[Any]:
    """The judge's form of a variable."""
    if name not in _SCALED:
        return array
    return (array.astype(np.float32) * np.float32(SHARPNESS)).astype(np.float32)
