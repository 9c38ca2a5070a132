"""Programmes of `provisioning/`, loaded as modules: they are scripts, not a package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

PROVISIONING = Path(__file__).resolve().parents[1] / "provisioning"


def load(path: str) -> ModuleType:
    """`load("fleet/repository.py")`: the module, loaded once."""
    name = "provisioning_" + path.removesuffix(".py").replace("/", "_").replace("-", "_")
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, PROVISIONING / path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
