"""What was decided from afar and outlives a restart: desired configuration, mute, ids of commands."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.config import Config, with_values
from edge_agent.files import write_atomically
from edge_agent.mqtt import desired

_log = logging.getLogger(__name__)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Who waits for an answer."""

    command_id: str
    response_topic: str = ""
    correlation: bytes | None = None


class Installing(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a command asked for and that is on its way."""

    reply: Reply
    model: str
    version: int


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """The file `remote.json` of the state directory."""

    version: int = 0
    """Of the desired configuration in force; 0: none."""
    values: dict[str, Any] = {}
    profile: str = ""
    """Set by command; empty: the configuration file's."""
    muted: bool = False
    muted_until_utc_ms: int | None = None
    """With `muted`: None for until told."""
    restarting: Reply | None = None
    """Who asked for the restart and waits to hear that it is done."""
    installing: Installing | None = None
    seen: dict[str, int] = {}
    """Command id -> expiry, UTC milliseconds."""


class RemoteStore:
    """Reads and writes the file; None keeps it in memory only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.value = self._load()

    def change(self, **fields: Any) -> bool:
        """Set fields and write the file; False when the disk did not take it (they hold until the end)."""
        self.value = msgspec.structs.replace(self.value, **fields)
        if self._path is None:
            return True
        try:
            write_atomically(self._path, msgspec.json.encode(self.value), mode=0o600)
        except OSError as error:
            _log.error("what was set from afar is not written down", extra={"error": str(error)})
            return False
        return True

    def _load(self) -> Remote:
        if self._path is None:
            return Remote()
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Remote)
        except FileNotFoundError:
            return Remote()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            _log.error("what was set from afar cannot be read and is forgotten", extra={"error": str(error)})
            return Remote()


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What holds beside the configuration in force."""

    store: RemoteStore
    """What was set from afar."""
    base: Config
    """The configuration without the desired one's values."""
    config: Config
    """With them: what the parts are made with."""
    reload: Callable[[], Config]
    """Reads the configuration file again; raises ConfigError."""
    models_dir: Path


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """What other parts add to `up/config`."""

    values: dict[str, object] = msgspec.field(default_factory=dict)
    """Key -> what is in force, where that is not simply the configuration."""
    pending: tuple[str, ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()


def effective(base: Config, remote: Remote) -> desired.Judged:
    """The configuration file's values with those set from afar over them; bad ones are named."""
    document = desired.sort_out(remote.version, remote.values)
    return desired.judge(base, document, merge)


def merge(config: Config, values: Any) -> Config:
    """See `config.with_values`.

    Raises:
        ConfigError: a value that cannot work.
    """
    return with_values(config, values, "the desired configuration")


def with_profile(config: Config, name: str) -> Config:
    """The same configuration for another profile; the file's own when the name is empty.

    A model named in the file was named for the file's profile.
    """
    return with_values(config, {"recognition.profile": name}, "the command") if name else config
