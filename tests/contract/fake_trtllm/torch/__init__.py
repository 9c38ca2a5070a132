"""As much of PyTorch as the drivers use, on numpy."""

from types import SimpleNamespace
from typing import Any

import numpy as np

float16 = np.float16
version = SimpleNamespace(cuda="13.0")
cuda = SimpleNamespace(
    get_device_capability=lambda _index: (9, 0), get_device_name=lambda _index: "NVIDIA H100 (stand-in)"
)


class _Tensor(np.ndarray):
    def contiguous(self) -> "_Tensor":
        return np.ascontiguousarray(self).view(_Tensor)


def frombuffer(data: Any, *, dtype: Any) -> _Tensor:
    return np.frombuffer(data, dtype=dtype).view(_Tensor)
