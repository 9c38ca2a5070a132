"""A network of one machine: a namespace with one link to the host, which loses, cuts, resets and is slow.

The kernel does it (nft drops packets and answers with resets, tbf holds the rate), so TCP feels what it would
feel outside. Delay needs netem, which many kernels lack: the proxy on the host's side of the link makes it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from types import TracebackType
from typing import Self

import pytest

BURST_BYTES = 4096


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Namespace:
    """Context manager; skips the test where namespaces cannot be made.

    Args:
        loss: share of packets dropped, each way.
        rate_kbit: of the link, each way; 0: as fast as it is.
    """

    def __init__(self, *, loss: float = 0.0, rate_kbit: int = 0) -> None:
        self.name = f"edge-fault-{os.getpid()}"
        self._here, self._there = f"ef{os.getpid()}a", f"ef{os.getpid()}b"
        subnet = f"10.213.{os.getpid() % 256}"
        self.host, self._guest = f"{subnet}.1", f"{subnet}.2"
        self._loss, self._rate_kbit = loss, rate_kbit
        self._taken = 0

    def __enter__(self) -> Self:
        if os.geteuid() != 0 or not all(shutil.which(tool) for tool in ("ip", "nft", "tc")):
            pytest.skip("a network namespace needs root, iproute2 and nftables")
        try:
            _ip("netns", "add", self.name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespace here: {error.stderr.decode().strip()}")
        try:
            _ip("link", "add", self._here, "type", "veth", "peer", "name", self._there, "netns", self.name)
            _ip("addr", "add", f"{self.host}/30", "dev", self._here)
            _ip("link", "set", self._here, "up")
            _ip("-n", self.name, "addr", "add", f"{self._guest}/30", "dev", self._there)
            _ip("-n", self.name, "link", "set", self._there, "up")
            _ip("-n", self.name, "link", "set", "lo", "up")
            self._hold_rate()
            self.open()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def command(self, *command: str) -> list[str]:
        """A command line that runs inside."""
        return ["ip", "netns", "exec", self.name, *command]

    def open(self) -> None:
        """As lossy as it is, and no worse."""
        self._rule(f"numgen random mod 1000 < {round(self._loss * 1000)} drop" if self._loss else "")

    def partition(self) -> None:
        """Nothing passes, nothing is said: as with a pulled cable beyond the first switch."""
        self._rule("drop")

    def reset(self) -> None:
        """Each packet on its way out is answered with a reset, as by a firewall that forgot us."""
        # Only what goes to the host: the reset itself passes the same chain.
        self._rule(f"ip daddr {self.host} ip protocol tcp reject with tcp reset", incoming="")

    def unplug(self) -> None:
        """The interface itself goes down."""
        _ip("link", "set", self._here, "down")

    def plug(self) -> None:
        """And up again."""
        _ip("link", "set", self._here, "up")

    def dropped(self) -> int:
        """Packets that the rules took so far."""
        words = self._nft("list counter inet bad taken", check=False).split()
        return self._taken + (int(words[words.index("packets") + 1]) if "packets" in words else 0)

    def _rule(self, rule: str, incoming: str | None = None) -> None:
        ways = (("out", "output", rule), ("in", "input", rule if incoming is None else incoming))
        chains = "\n".join(
            f"chain {name} {{ type filter hook {hook} priority 0; policy accept;\n{_counted(what)} \n}}"
            for name, hook, what in ways
        )
        self._taken = self.dropped()
        table = f"table inet bad {{\ncounter taken {{}}\n{chains}\n}}\n"
        self._nft(f"table inet bad {{}}\ndelete table inet bad\n{table}")

    def _nft(self, script: str, *, check: bool = True) -> str:
        return subprocess.run(
            self.command("nft", "-f", "-"),
            input=script,
            check=check,
            capture_output=True,
            text=True,
        ).stdout

    def _hold_rate(self) -> None:
        if self._rate_kbit:
            shape = f"root tbf rate {self._rate_kbit}kbit burst {BURST_BYTES} latency 1s".split()
            for command in (
                ["tc", "qdisc", "add", "dev", self._here, *shape],
                self.command("tc", "qdisc", "add", "dev", self._there, *shape),
            ):
                subprocess.run(command, check=True, capture_output=True)

    def _end(self) -> None:
        subprocess.run(["ip", "link", "del", self._here], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


def _counted(rule: str) -> str:
    """The rule with its packets counted: what decides comes before, what is done with it after."""
    if not rule:
        return ""
    for verdict in ("drop", "reject"):
        before, found, after = rule.partition(verdict)
        if found:
            return f'{before}counter name "taken" {found}{after}'
    return rule
