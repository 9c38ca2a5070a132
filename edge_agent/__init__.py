"""A headless speech-recognition appliance: microphone in, transcripts out over MQTT."""

import os

__version__ = "0.1.0"

# onnxruntime 1.29 and later phones home at import unless this is set before the import (see decisions/0002).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Spinning OpenMP threads cost 1.4 to 1.7 times the CPU for short decodes; sleep between them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
