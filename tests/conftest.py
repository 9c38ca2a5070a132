"""Fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes says more about the other processes on a machine than about the code.
settings.register_profile("calm", deadline=None)
settings.load_profile("calm")

pytest_plugins = ["tests.broker"]


@pytest.fixture(autouse=True)
def _private_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the files of this machine's own agent; models are shared, read only."""
    if "EDGE_AGENT_MODELS" not in os.environ:
        from edge_agent.verbs.common import models_dir

        monkeypatch.setenv("EDGE_AGENT_MODELS", str(models_dir()))
    monkeypatch.setenv("EDGE_AGENT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("EDGE_AGENT_CONFIG", raising=False)
