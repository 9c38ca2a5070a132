"""A machine whose memory runs out while an engine loads or decodes: one error of our own, never another."""

from __future__ import annotations

import ctypes
import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_agent.engine.base import EngineConfig, open_engine
from edge_agent.errors import EngineError, EngineLoadFailed, OutOfMemory
from edge_agent.models.convert import convert_to_onnx
from edge_agent.models.store import ModelStore
from edge_agent.types import DecodeOptions
from tests.unit.engine.real import model_dir

NAME = "whisper-tiny.en"
MIB = 1 << 20


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model for each kind of engine."""
    store = ModelStore(tmp_path_factory.mktemp("store"), catalog={})
    store.import_dir(NAME, model_dir(NAME, prepared=False))
    return {"ctranslate2": model_dir(NAME), "onnxruntime": convert_to_onnx(NAME, store, "int8")}


def _ended(kind: str, directory: Path, moment: str, mib: int) -> str:
    """How a process ends that may take so much more memory from that moment on."""
    command = [sys.executable, "-m", "tests.unit.engine.test_memory", kind, str(directory), moment, str(mib)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert "Traceback" not in done.stderr
    return str(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("kind", ["ctranslate2", "onnxruntime"])
def test_decoding_without_memory_is_an_error_of_its_own(places: dict[str, Path], kind: str) -> None:
    """Whoever allocates in vain: numpy, MKL, the runtime. Whoever opened the engine takes a smaller one."""
    ends = [_ended(kind, places[kind], "decode", mib) for mib in (1, 1, 1, 20, 400)]
    # Now and then what the C library kept of the warm-up's memory is enough.
    assert "OutOfMemory" in ends[:3]
    assert ends[-1] == "heard"
    assert set(ends) <= {"OutOfMemory", "heard"}


@pytest.mark.parametrize("kind", ["ctranslate2", "onnxruntime"])
def test_loading_without_memory_is_an_error_of_its_own(places: dict[str, Path], kind: str) -> None:
    """The next profile serves then."""
    ends = [_ended(kind, places[kind], "load", mib) for mib in (40, 400)]
    assert ends == ["EngineLoadFailed", "heard"]


def main(kind: str, directory: str, moment: str, mib: str) -> None:
    """Load and decode half a minute, with little memory from `moment` on."""
    import ctranslate2  # noqa: F401 - loaded before the limit, as in the agent
    import onnxruntime  # noqa: F401 - so too

    noise = np.random.default_rng(0).normal(0, 0.02, 16_000 * 28).astype(np.float32)
    config = EngineConfig(kind=kind, model_dir=Path(directory), model_name="m@0")
    if moment == "load":
        _limit(int(mib))
    try:
        engine = open_engine(config)
        if moment == "decode":
            # As the agent does; OpenBLAS ends the process where its one buffer cannot be had at first use.
            engine.warm_up()
            _limit(int(mib))
        engine.transcribe(noise, options=DecodeOptions(language="en"))
    except EngineError as error:
        end = type(error).__name__ if isinstance(error, EngineLoadFailed | OutOfMemory) else str(error)
    else:
        end = "heard"
    print(json.dumps(end))


def _limit(mib: int) -> None:
    ctypes.CDLL(None).malloc_trim(0)  # what is free already would serve instead
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    taken = next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (taken + mib * MIB,) * 2)


if __name__ == "__main__":
    main(*sys.argv[1:])
