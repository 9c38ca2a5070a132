"""A headless speech-recognition appliance: microphone in, transcripts out over MQTT."""

import os

__version__ = "0.1.0"

# onnxruntime 1.29 and later phones home at import unless this is set before the import (see decisions/0002).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Spinning OpenMP threads cost 1.4 to 1.7 times the CPU for short decodes; sleep between them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Features are one small matrix product; more BLAS threads only spin (15 ms instead of 0.7 on a busy machine).
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# CTranslate2 keeps kernels built for each new shape: 1024 by default, 80 MB after a hundred utterances.
# 32 cost no more time, and the memory stays flat.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "32")
