"""The file of the activation: one value, replaced whole."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from edge_agent.files import write_atomically
from edge_agent.fleet.activation import Activation

_log = logging.getLogger(__name__)


class Keep:
    """Reads and writes it. The directory is made when missing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.value = self._load()

    def write(self, value: Activation) -> bool:
        """Durable before it is in force; False, and nothing changes, when the disk does not take it."""
        if value == self.value:
            return True
        try:
            write_atomically(self._path, msgspec.json.encode(value), mode=0o600)
        except OSError as error:
            _log.error("the state of the activation is not written", extra={"error": str(error)})
            return False
        self.value = value
        return True

    def _load(self) -> Activation:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Activation)
        except FileNotFoundError:
            return Activation()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # The profile's own model serves, and the fleet's is fetched and tried again.
            _log.error("the state of the activation cannot be read", extra={"error": str(error)})
            return Activation()
