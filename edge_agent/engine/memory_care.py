"""When a GPU's memory runs out: try again, and decode one utterance at a time from then on.

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


def is_out_of_memory(message: str) -> bool:
    """Do a library's words say so? CTranslate2: "CUDA failed with error out of memory", onnxruntime: "Failed
    to allocate memory", cuBLAS: CUBLAS_STATUS_ALLOC_FAILED."""
    words = message.lower()
    return any(part in words for part in ("out of memory", "failed to allocate memory", "alloc_failed"))


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
                return decode()
        except OutOfMemory as error:
            log.warning("%s; decoding one utterance at a time from now on", error.cause)
            self.narrowed = True
        with self._turn:
            return decode()
