"""When memory runs out, a GPU's or the machine's: try again, and decode one utterance at a time from then on.

Memory runs out when several decodes meet, or when another program took what was free at the start. The first
passes by itself once the others have ended; the second ends in `OutOfMemory`, and whoever opened the engine
takes a smaller one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

from edge_agent.errors import OutOfMemory

log = logging.getLogger(__name__)
T = TypeVar("T")
_NO_MEMORY = ("out of memory", "failed to allocate memory", "alloc_failed", "bad_alloc", "bad allocation")


def is_out_of_memory(message: str) -> bool:
    """Do a library's words say so? CTranslate2: "CUDA failed with error out of memory", onnxruntime and MKL:
    "failed to allocate memory", cuBLAS: CUBLAS_STATUS_ALLOC_FAILED, C++: std::bad_alloc."""
    words = message.lower()
    return any(part in words for part in _NO_MEMORY)


class MemoryCare:
    """Runs decodes; all at once until memory ran out, one at a time afterwards."""

    def __init__(self) -> None:
        self.narrowed = False
        self._turn = threading.Lock()

    def run(self, decode: Callable[[], T]) -> T:
        """The decode's result.

        Raises:
            OutOfMemory: even alone it does not fit.
        """
        try:
            with self._turn if self.narrowed else nullcontext():
                return _told(decode)
        except OutOfMemory as error:
            log.warning("%s; decoding one utterance at a time from now on", error.cause)
            self.narrowed = True
        with self._turn:
            return _told(decode)


def _told(decode: Callable[[], T]) -> T:
    """What Python and the libraries say in their own way, in ours."""
    try:
        return decode()
    except MemoryError as error:
        raise OutOfMemory(
            f"no memory is left: {' '.join(str(error).split()) or 'an array is too large'}",
            remedy="end what else runs here, or choose a smaller profile",
        ) from error
