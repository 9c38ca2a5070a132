"""The support archive of `edge-agent doctor`: what explains a device, without sound, transcripts or secrets.

Only what is named here goes in. Of the configuration the words a site listens for (prompt, terms) and
whatever could be a login are left out; the journal never holds words to begin with.
"""

from __future__ import annotations

import io
import json
import platform
import re
import shutil
import subprocess
import tarfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent import __version__
from edge_agent.errors import EdgeAgentError, UsageError
from edge_agent.files import write_atomically
from edge_agent.verbs.common import models_dir, runtime_dir, state_dir

if TYPE_CHECKING:
    from edge_agent.config import Config

_HIDDEN = frozenset({"prompt", "terms", "password", "secret", "token", "key"})
_LOGIN = re.compile(r"//[^/@\s]*@")
_JOURNAL_LINES = 2000


def write(path: Path, config: Config, source: Path | None, checks: list[dict[str, str]]) -> None:
    """Write the archive, readable by its owner only.

    Args:
        path: the archive.
        config: as loaded.
        source: where from.
        checks: the doctor's verdicts.

    Raises:
        UsageError: it cannot be written.
    """
    parts = {
        "checks.json": _json(checks),
        "versions.json": _json(_versions()),
        "device.json": _json(_device(config)),
        "config.json": _json({"file": str(source or ""), "values": _without_secrets(config)}),
        "models.json": _json(_models()),
        "outbox.json": _json(_outbox()),
        "health.json": _text(runtime_dir() / "health.json"),
        "starts.json": _text(runtime_dir() / "starts.json"),
        "os-release": _text(Path("/etc/os-release")),
        "meminfo": _text(Path("/proc/meminfo")),
        "disk.txt": _output("df", "-h", str(state_dir().parent)),
        "sound.txt": _text(Path("/proc/asound/cards")),
        "unit.txt": _output("systemctl", "show", "edge-agent.service"),
        "journal.txt": _output(
            "journalctl", "--no-pager", "-q", "-u", "edge-agent*", "-n", str(_JOURNAL_LINES)
        ),
    }
    try:
        write_atomically(path, _archive(parts), mode=0o600)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}",
            remedy="name a file in a directory that you may write",
        ) from error


def _archive(parts: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in parts.items():
            content = _LOGIN.sub("//[redacted]@", text).encode()
            entry = tarfile.TarInfo(f"edge-agent-support/{name}")
            entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _versions() -> dict[str, Any]:
    found = {dist.metadata["Name"]: dist.version for dist in metadata.distributions()}
    return {
        "edge-agent": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "packages": dict(sorted(found.items())),
    }


def _device(config: Config) -> dict[str, Any]:
    import msgspec

    from edge_agent.meaning import wish_of
    from edge_agent.opening import choose_profile

    try:
        device, choice = choose_profile(wish_of(config, models_dir()))
    except EdgeAgentError as error:
        return {"error": str(error)}
    return {
        "device": msgspec.to_builtins(device),
        "profile": choice.profile.name,
        "reasons": list(choice.reasons),
        "rejected": [list(pair) for pair in choice.rejected],
    }


def _without_secrets(config: Config) -> dict[str, Any]:
    import msgspec

    def clean(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: clean(inner, name) for name, inner in value.items()}
        return "[left out]" if key in _HIDDEN and value else value

    cleaned: dict[str, Any] = clean(msgspec.to_builtins(config), "")
    return cleaned


def _models() -> list[dict[str, Any]]:
    import msgspec

    from edge_agent.models.store import ModelStore

    try:
        return [msgspec.to_builtins(model) for model in ModelStore(models_dir()).list()]
    except (EdgeAgentError, OSError) as error:
        return [{"error": str(error)}]


def _outbox() -> dict[str, Any]:
    """Counts only; what is queued are transcripts."""
    import msgspec

    from edge_agent.clock import SystemClock
    from edge_agent.outbox.store import look

    path = state_dir() / "outbox.sqlite3"
    if not path.exists():
        return {"exists": False}
    try:
        stats: dict[str, Any] = msgspec.to_builtins(look(path, clock=SystemClock()))
    except EdgeAgentError as error:
        return {"error": str(error)}
    return stats


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"({error.strerror})\n"


def _output(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return f"({command[0]} is not here)\n"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=30, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"({error})\n"
    return done.stdout or done.stderr
