#!/usr/bin/env python3
"""Make this device one of the fleet: its key, its certificate, its first agent.toml.

    enroll.py https://ca.example:8443 TOKEN     first time, or again after a loss (revokes the old one)
    enroll.py https://ca.example:8443 --renew   a new key and certificate, proven by the present one
    enroll.py ... --tpm                         the same, the key sealed by this machine's TPM

The key is made here, readable by the agent only, and never leaves: what is sent is a request that it signs.
The token comes from `ca.py token`, is good once and for an hour, and says whose certificate to believe, so
that the first connection needs no other trust. --renew does nothing while the certificate is good for 60
days; run it daily. Nothing is changed when anything goes wrong."""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import ssl
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.errors import EdgeAgentError, FleetError, UsageError
from edge_agent.files import write_atomically
from edge_agent.fleet import sealed
from edge_agent.fleet.identity import (
    Token,
    days_left,
    fingerprint,
    keep,
    make_request,
    paired,
    parse_token,
)

TIMEOUT_S = 20
RENEW_DAYS = 60
_ANSWER_BYTES = 1 << 20
_USER = "edge-agent"


@dataclass(frozen=True)
class Home:
    """Where a device keeps its identity.

    Args:
        etc: the agent's configuration directory.
        units: systemd's.
        tpm: the TPM that seals the key; empty: a file that its owner alone reads.
    """

    etc: Path
    units: Path = Path("/etc/systemd/system")
    tpm: str = ""

    @property
    def pem(self) -> Path:
        """Key and certificate, as the agent reads them."""
        if self.tpm:
            return Path("/run/credentials/edge-agent.service") / sealed.CREDENTIAL
        return self.etc / "device.pem"

    @property
    def certificate(self) -> Path:
        """A file that holds the certificate."""
        return self.etc / ("device.crt" if self.tpm else "device.pem")

    def keep(self, key: bytes, certificate: bytes, name: str) -> None:
        """Replace key and certificate at once."""
        if not self.tpm:
            keep(self.etc / "device.pem", key, certificate, name)
            _own(self.etc / "device.pem")
            return
        secret = paired(key, certificate, name)
        sealed.seal(secret, self.etc / "device.cred", device=self.tpm)
        write_atomically(self.etc / "device.crt", certificate)
        drop_in = self.units / "edge-agent.service.d/identity.conf"
        drop_in.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(drop_in, sealed.drop_in(self.etc / "device.cred"))
        (self.etc / "device.pem").unlink(missing_ok=True)

    @contextmanager
    def opened(self) -> Iterator[str]:
        """A path of key and certificate for the time of a request."""
        if not self.tpm:
            yield str(self.etc / "device.pem")
            return
        descriptor = sealed.in_memory(sealed.unseal(self.etc / "device.cred", device=self.tpm))
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)


def enrol(url: str, token: Token, home: Home, *, force: bool = False) -> Path:
    """First enrolment; answers the configuration file."""
    etc = home.etc
    toml = etc / "agent.toml"
    if _says_something(toml) and not force:
        raise UsageError(f"{toml} is in use", remedy="add --force to replace it; a copy stays beside it")
    if home.tpm:
        sealed.seal(b"probe", None, device=home.tpm)  # before the token is spent
    ca = _ca(url, token)
    key, request = make_request(token.name)
    told = _ask(f"{url}/enroll", {"secret": token.secret, "csr": request.decode()}, ca)
    etc.mkdir(mode=0o755, parents=True, exist_ok=True)
    home.keep(key, str(told["certificate"]).encode(), token.name)
    write_atomically(etc / "ca.crt", ca)
    settings = dict(told.get("settings") or {})
    if settings.get("root"):
        write_atomically(etc / "root.json", str(settings["root"]).encode())
    if toml.exists():
        shutil.copyfile(toml, toml.with_suffix(".toml.before"))
    write_atomically(toml, _configuration(token.name, settings, home).encode())
    return toml


def renew(url: str, home: Home, *, force: bool = False) -> bool:
    """A new key and certificate for a device that has one; False while that is not needed."""
    if days_left(home.certificate) > RENEW_DAYS and not force:
        return False
    name = tomllib.loads((home.etc / "agent.toml").read_text(encoding="utf-8"))["device"]["id"]
    key, request = make_request(name)
    with home.opened() as pem:
        ca = (home.etc / "ca.crt").read_bytes()
        told = _ask(f"{url}/renew", {"csr": request.decode()}, ca, pem)
    home.keep(key, str(told["certificate"]).encode(), name)
    return True


def _ca(url: str, token: Token) -> bytes:
    """The CA's certificate, known by the digest in the token, whoever sends it."""
    unproven = ssl.create_default_context()
    unproven.check_hostname, unproven.verify_mode = False, ssl.CERT_NONE
    pem = _open(f"{url}/ca.crt", None, unproven)
    if fingerprint(pem) != token.ca_sha256:
        raise FleetError(
            f"{url} is not the CA that the token names",
            remedy="check the address; somebody may be in between",
        )
    return pem


def _ask(url: str, body: dict[str, Any], ca: bytes, pem: str = "") -> dict[str, Any]:
    context = ssl.create_default_context(cadata=ca.decode("ascii"))
    if pem:
        context.load_cert_chain(pem)
    answer = json.loads(_open(url, json.dumps(body).encode(), context))
    if not isinstance(answer, dict) or "certificate" not in answer:
        raise FleetError(f"{url} answers no certificate", remedy="check the CA's log")
    return answer


def _open(url: str, body: bytes | None, context: ssl.SSLContext) -> bytes:
    if not url.startswith("https://"):
        raise UsageError(f"{url} is no https address", remedy="name the CA's address")
    try:
        with urllib.request.urlopen(url, body, TIMEOUT_S, context=context) as answer:  # noqa: S310 - https, see above
            return answer.read(_ANSWER_BYTES)
    except urllib.error.HTTPError as error:
        said = error.read(2000).decode("utf-8", "replace")
        try:
            said = json.loads(said)["error"]
        except (ValueError, KeyError, TypeError):
            said = f"HTTP {error.code}"
        raise FleetError(f"the CA refuses: {said}", remedy="see the CA's log") from error
    except (urllib.error.URLError, OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", error)
        raise FleetError(f"no answer from {url} ({reason})", remedy="check the address") from error


def _configuration(name: str, settings: dict[str, Any], home: Home) -> str:
    """The first agent.toml. JSON's strings and lists are TOML's."""
    etc = home.etc
    lines = [
        "# Made by the enrolment; every other key has its default.",
        "[device]",
        f"id = {json.dumps(name)}",
        "[mqtt]",
        f"url = {json.dumps(settings.get('mqtt_url', 'mqtts://127.0.0.1:8883'))}",
        f"ca_file = {json.dumps(str(etc / 'ca.crt'))}",
        f"cert_file = {json.dumps(str(home.pem))}",
        f"key_file = {json.dumps(str(home.pem))}",
    ]
    if settings.get("root"):
        lines += [
            "[fleet]",
            f"root_file = {json.dumps(str(etc / 'root.json'))}",
            f"mirrors = {json.dumps(settings.get('mirrors') or [])}",
        ]
    return "\n".join(lines) + "\n"


def _says_something(toml: Path) -> bool:
    """The file that the package brings has comments and empty tables only."""
    try:
        return any(tomllib.loads(toml.read_text(encoding="utf-8")).values())
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True


def _own(path: Path) -> None:
    """The agent's user reads it, nobody else."""
    try:
        user = pwd.getpwnam(_USER)
    except KeyError:
        return
    if os.geteuid() == 0:
        os.chown(path, user.pw_uid, user.pw_gid)


def main() -> int:
    """Do it; a user's mistake is one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="https address of the CA")
    parser.add_argument(
        "token", nargs="?", help='claim token; "-" reads it from stdin, so that no list shows it'
    )
    parser.add_argument("--renew", action="store_true")
    parser.add_argument("--etc", type=Path, default=Path("/etc/edge-agent"))
    parser.add_argument(
        "--force", action="store_true", help="replace a configuration; renew before it is time"
    )
    parser.add_argument(
        "--tpm",
        nargs="?",
        const="auto",
        default="",
        metavar="DEVICE",
        help="seal the key by this machine's TPM (default: the one there is)",
    )
    parser.add_argument("--units", type=Path, default=Path("/etc/systemd/system"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    home = Home(args.etc, args.units, args.tpm or ("auto" if (args.etc / "device.cred").exists() else ""))
    os.umask(0o022)
    try:
        if args.renew:
            done = renew(args.url.rstrip("/"), home, force=args.force)
            print("renewed; restart the agent" if done else "still good")
        elif args.token is None:
            raise UsageError("a claim token is missing", remedy="ask the fleet's operator for one")
        else:
            given = args.token
            token = parse_token(sys.stdin.readline() if given == "-" else given)
            toml = enrol(args.url.rstrip("/"), token, home, force=args.force)
            first = "systemctl daemon-reload && " if home.tpm else ""
            print(f"enrolled as {token.name}; {toml} is written. Next: {first}systemctl restart edge-agent")
    except EdgeAgentError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
