"""Profiles and machines for tests, made in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.profile.load import PACKAGE
from edge_agent.profile.schema import Profile, Source, load
from edge_agent.types import Device

BASE = Source(
    path="profiles/base.toml", text=(PACKAGE.parent / "profiles/base.toml").read_text(encoding="utf-8")
)


def sources(**files: str) -> dict[str, Source]:
    """Profile files by name, the shipped base among them."""
    return {"base": BASE} | {name: Source(path=f"{name}.toml", text=text) for name, text in files.items()}


def profile(name: str, body: str = "") -> Profile:
    """A profile that extends base."""
    return load(name, sources(**{name: f'extends = "base"\ndescription = "test"\n{body}'})).profile


def device(**given: Any) -> Device:
    """A PC of four cores and 8 GB with AVX2, `given` changed."""
    facts: Mapping[str, Any] = {
        "arch": "x86_64",
        "cpu_model": "Test CPU",
        "cpu_flags": frozenset({"avx", "avx2"}),
        "cores": 4,
        "usable_cpus": 4.0,
        "ram_bytes": 8 << 30,
        "usable_ram_bytes": 8 << 30,
    }
    return Device(**{**facts, **given})
