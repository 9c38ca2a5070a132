"""The real command in a process of its own, started, watched and broken by tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from edge_agent.verbs.common import models_dir

COMMAND = [sys.executable, "-m", "edge_agent"]


def edge_agent(
    *arguments: str, timeout_s: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        check=False,
    )


def messages(done: subprocess.CompletedProcess[str]) -> list[dict]:
    """The received messages that `demo --json` printed."""
    return [json.loads(line) for line in done.stdout.splitlines()]


def finals(received: list[dict]) -> list[dict]:
    """The payloads of the finals among them."""
    return [m["payload"] for m in received if m["topic"].endswith("/up/transcript/final")]


class AgentProcess:
    """`edge-agent run`, killed at the end whatever happens.

    Args:
        state: state directory.
        settings: `key=value` overrides.
        environment: added to this process's.
    """

    def __init__(self, state: Path, *settings: str, **environment: str) -> None:
        self.state, self.settings = state, settings
        models = str(models_dir())  # those of this machine, before its state directory is replaced
        self.environment = {
            **os.environ,
            "EDGE_AGENT_MODELS": models,
            "EDGE_AGENT_STATE": str(state),
            **environment,
        }
        self.log_path = state.parent / f"{state.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> AgentProcess:
        """Start it (again); the one before must have ended."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        self.state.parent.mkdir(parents=True, exist_ok=True)
        overrides = [part for setting in self.settings for part in ("--set", setting)]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*COMMAND, "run", *overrides],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
            )
        return self

    def __enter__(self) -> AgentProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running or ended process."""
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """As the out-of-memory killer does it."""
        self.process.kill()
        self.process.wait(10)

    def terminate(self, timeout_s: float = 10) -> int:
        """SIGTERM; answers the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    @property
    def log(self) -> str:
        """All it has written so far."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")
