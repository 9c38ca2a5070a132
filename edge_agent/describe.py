"""What the appliance says of itself: the bodies of `up/info` and `up/health`."""

from __future__ import annotations

import platform
import threading
from contextlib import suppress
from pathlib import Path

import msgspec

from edge_agent import __version__
from edge_agent.audio.level import Level
from edge_agent.audio.several import AllCutters
from edge_agent.opening import Recogniser
from edge_agent.types import Device


def info_facts(recogniser: Recogniser) -> dict[str, object]:
    """The body of `up/info`: hardware, profile and reasons, engine, model, versions, capabilities."""
    device, choice, info = recogniser.device, recogniser.choice, recogniser.engine.info
    return {
        "hardware": _plain(device),
        "profile": choice.profile.name,
        "profile_reasons": list(choice.reasons),
        "profiles_rejected": [{"profile": name, "why": why} for name, why in choice.rejected],
        "engine": info.kind,
        "engine_notes": list(info.notes),
        "model": recogniser.model_name,
        "versions": {"edge-agent": __version__, "python": platform.python_version()},
        "capabilities": {"words": info.steps, "languages": list(info.languages)},
    }


def _plain(device: Device) -> dict[str, object]:
    facts: dict[str, object] = msgspec.to_builtins(device)
    facts["cpu_flags"] = len(device.cpu_flags)  # hundreds of words; `edge-agent detect` prints them
    return facts


def sound_gauges(cutter: AllCutters) -> dict[str, object]:
    """`audio` of `up/health`: of the first stream, then of each."""
    cut, levels = cutter.statistics(), [_level(cutter.level(channel)) for channel in cutter.channels]
    return {
        "heard_s": round(cut.heard_s, 1),
        "gap_s": round(cut.gap_s, 3),
        **levels[0],
        "listening": cutter.listening,
        "channels": levels,
    }


def _level(level: Level) -> dict[str, object]:
    return {
        "peak_dbfs": round(level.peak_dbfs, 1),
        "rms_dbfs": round(level.rms_dbfs, 1),
        "silent_s": round(level.zero_run_s, 1),
    }


def name_threads() -> None:
    """Give the threads their names in the operating system too, where Python does not (before 3.14)."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            with suppress(OSError):
                comm = Path(f"/proc/self/task/{thread.native_id}/comm")
                comm.write_text(thread.name[:15], encoding="utf-8")
