"""The real models for tests of decoding: those in the model store."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import EdgeAgentError
from edge_agent.models.store import ModelStore
from edge_agent.verbs.common import models_dir


def model_dir(name: str, *, prepared: bool = True) -> Path:
    """Directory of a model in the store; the test is skipped when it is not there."""
    store = ModelStore(models_dir())
    try:
        return store.path(name) if prepared else store.source_dir(name).resolve(strict=True)
    except (EdgeAgentError, OSError) as error:
        pytest.skip(f"pull it first with: edge-agent models pull {name} ({error})")
