"""Stand-in; see ../README.md."""

import os
import sys

__version__ = "1.2.1"
print("[TensorRT-LLM] a banner on standard output, as the real one prints")
if os.environ.get("FAKE_TRTLLM") == "missing":
    raise ImportError("libnvinfer.so.10: cannot open shared object file")
sys.stdout.flush()
