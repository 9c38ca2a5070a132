"""Libraries are loaded in processes of their own, and whatever happens there becomes a finding."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.health import children


def planted(place: Path, monkeypatch: pytest.MonkeyPatch, **modules: str) -> None:
    for name, code in modules.items():
        (place / f"{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(place))


def test_crashes_errors_and_missing_parts_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal, an import error and a library that loads but cannot work."""
    planted(
        tmp_path,
        monkeypatch,
        ctranslate2="import os; os.kill(os.getpid(), 4)",
        soxr="raise ImportError('libsoxr.so.0: cannot open shared object file')",
        tokenizers="class Tokenizer: pass",
    )
    found = {probe.name: probe for probe in children.libraries(cuda=True)}
    assert found["ctranslate2"].signal == 4
    assert "libsoxr.so.0" in found["soxr"].error
    assert "AttributeError" in found["tokenizers"].error
    assert found["onnxruntime"].version
    assert not found["av"].error
    assert not found["libcublas"].signal


def test_one_distribution_owns_onnxruntime_here() -> None:
    """This very installation is sound."""
    assert [owner.name for owner in children.runtimes()] == ["onnxruntime"]
