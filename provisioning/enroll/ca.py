#!/usr/bin/env python3
"""A small certificate authority for trials: it signs what devices ask for, once per claim token.

    ca.py init DIR HOST...            CA, and a certificate for the broker and this service at HOST
    ca.py token DIR NAME [--minutes]  a claim token for one device; printed once, kept only as a digest
    ca.py serve DIR [--port 8443]     answer devices: enrolment by token, renewal by the present certificate
    ca.py sign DIR NAME               key and certificate for a programme of yours (fleet, reader)
    ca.py revoke DIR NAME             put all certificates of a name on DIR/ca.crl; restart the broker
    ca.py list DIR                    who has a certificate, and until when

Files have the names that provisioning/mosquitto expects. DIR/settings.json tells new devices where the
broker and the fleet's repository are: {"mqtt_url": ..., "mirrors": [...], "root_file": "path of
1.root.json"}. A real fleet wants a CA whose key is in hardware: README.md tells how with step-ca and with
AWS IoT."""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import ipaddress
import json
import os
import secrets
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_agent.config import _TOPIC_SEGMENT
from edge_agent.errors import EdgeAgentError, FleetError, UsageError
from edge_agent.files import write_atomically
from edge_agent.fleet.identity import Token, common_name, fingerprint, keep, make_request

CA_DAYS, DEVICE_DAYS = 3650, 397
TOKEN_MINUTES = 60
_BODY_BYTES = 16 << 10
_PEM = serialization.Encoding.PEM


class Authority:
    """A directory: ca.key, ca.crt, ca.crl, server.key, server.crt, issued.json."""

    def __init__(self, place: Path, now: datetime | None = None) -> None:
        self.place, self._now = place, now
        try:
            self._key: Any = serialization.load_pem_private_key((place / "ca.key").read_bytes(), None)
            self.certificate = x509.load_pem_x509_certificate((place / "ca.crt").read_bytes())
        except (OSError, ValueError) as error:
            raise UsageError(f"{place} holds no CA ({error})", remedy="make one: ca.py init") from error

    @classmethod
    def create(cls, place: Path, hosts: list[str]) -> Authority:
        """A new CA, and the server's certificate."""
        if (place / "ca.key").exists():
            raise UsageError(f"{place}/ca.key exists", remedy="name another directory")
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        key, name = ec.generate_private_key(ec.SECP256R1()), _name("edge fleet CA")
        now = datetime.now(UTC)
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write_key(place / "ca.key", key)
        write_atomically(place / "ca.crt", made.public_bytes(_PEM))
        authority = cls(place)
        server = ec.generate_private_key(ec.SECP256R1())
        _write_key(place / "server.key", server)
        names = [x509.IPAddress(ip) if (ip := _address(host)) else x509.DNSName(host) for host in hosts]
        signed = authority._sign(server.public_key(), hosts[0], ExtendedKeyUsageOID.SERVER_AUTH, names)
        write_atomically(place / "server.crt", signed.public_bytes(_PEM))
        authority._write_revoked({})
        return authority

    @property
    def now(self) -> datetime:
        """Of signing."""
        return self._now or datetime.now(UTC)

    def token(self, name: str, minutes: float = TOKEN_MINUTES) -> Token:
        """A claim for one device, good once."""
        if not _TOPIC_SEGMENT.fullmatch(name):
            raise UsageError(
                f'"{name}" cannot be a device id', remedy="use letters, digits, . - _, at most 64"
            )
        made = Token(
            name=name,
            secret=secrets.token_urlsafe(24),
            ca_sha256=fingerprint(self.certificate.public_bytes(_PEM)),
        )
        with self._book() as book:
            until = (self.now + timedelta(minutes=minutes)).timestamp()
            live = {k: v for k, v in book["tokens"].items() if v["until"] > self.now.timestamp()}
            book["tokens"] = {**live, _digest(made.secret): {"name": name, "until": until}}
        return made

    def enrol(self, secret: str, request: bytes) -> tuple[str, bytes]:
        """Sign for whom the token names; answers the name and the certificate. The token is used up.

        Raises:
            FleetError: the token is not known, used or too old, or the request is not one.
        """
        asked = _request(request)
        with self._book() as book:
            claim = book["tokens"].pop(_digest(secret), None)
            if claim is None or claim["until"] < self.now.timestamp():
                raise FleetError("the claim token is used, too old or not ours", remedy="ask for a new one")
            self._revoke(book, claim["name"])  # a box that was replaced must not speak for the new one
            made = self._issue(book, asked, claim["name"])
        return claim["name"], made

    def renew(self, name: str, request: bytes) -> bytes:
        """Sign for who has proven its name by its present certificate; that one runs out by itself."""
        with self._book() as book:
            return self._issue(book, _request(request), name)

    def revoke(self, name: str) -> int:
        """Put all its certificates on the list; how many."""
        with self._book() as book:
            return self._revoke(book, name)

    def issued(self) -> dict[str, Any]:
        """By serial number."""
        with self._book() as book:
            return dict(book["issued"])

    def _issue(self, book: dict[str, Any], asked: x509.CertificateSigningRequest, name: str) -> bytes:
        made = self._sign(asked.public_key(), name, ExtendedKeyUsageOID.CLIENT_AUTH, [])
        until = made.not_valid_after_utc.timestamp()
        book["issued"][f"{made.serial_number:x}"] = {"name": name, "until": until, "revoked": None}
        return made.public_bytes(_PEM)

    def _sign(self, key: Any, name: str, use: x509.ObjectIdentifier, names: list[Any]) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(hours=1))
            .not_valid_after(self.now + timedelta(days=DEVICE_DAYS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _revoke(self, book: dict[str, Any], name: str) -> int:
        its = [one for one in book["issued"].values() if one["name"] == name and one["revoked"] is None]
        for one in its:
            one["revoked"] = self.now.timestamp()
        if its:
            self._write_revoked(book["issued"])
        return len(its)

    def _write_revoked(self, issued: dict[str, Any]) -> None:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(self.now - timedelta(minutes=5))
            .next_update(self.now + timedelta(days=CA_DAYS))
        )
        for serial, one in issued.items():
            if one["revoked"] is not None:
                when = datetime.fromtimestamp(one["revoked"], UTC)
                entry = x509.RevokedCertificateBuilder().serial_number(int(serial, 16)).revocation_date(when)
                builder = builder.add_revoked_certificate(entry.build())
        signed = builder.sign(self._key, hashes.SHA256())
        write_atomically(self.place / "ca.crl", signed.public_bytes(_PEM))

    @contextmanager
    def _book(self) -> Iterator[dict[str, Any]]:
        """The record of tokens and certificates, changed by one process at a time, written whole."""
        path = self.place / "issued.json"
        with (self.place / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            book = json.loads(path.read_bytes()) if path.exists() else {"tokens": {}, "issued": {}}
            before = json.dumps(book)
            yield book
            if json.dumps(book) != before:
                write_atomically(path, json.dumps(book, indent=1).encode(), mode=0o600)


class Service(ThreadingHTTPServer):
    """Answers devices over TLS."""

    daemon_threads = True

    def __init__(self, authority: Authority, host: str = "", port: int = 0) -> None:
        super().__init__((host, port), _Handler)
        self.authority = authority

    def get_request(self) -> tuple[Any, Any]:
        """The handshake is left to the handler's thread: a silent client holds nobody up."""
        connection, address = super().get_request()
        connection.settimeout(10)
        place = self.authority.place
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(place / "server.crt", place / "server.key")
        context.load_verify_locations(place / "ca.crt")
        context.load_verify_locations(place / "ca.crl")  # read for each connection: it changes
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        context.verify_mode = ssl.CERT_OPTIONAL
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up or shows a revoked certificate."""
        del request
        print(f"{client_address[0]}: {sys.exc_info()[1]}", file=sys.stderr)


class _Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        if self.path == "/ca.crt":
            self._answer(200, (self.server.authority.place / "ca.crt").read_bytes(), "application/x-pem-file")
        else:
            self._say(404, {"error": "nothing here"})

    def do_POST(self) -> None:
        try:
            size = int(self.headers.get("Content-Length", "0"))
            if not 0 < size <= _BODY_BYTES:
                raise FleetError("the request is too long", remedy="send a CSR")
            body = json.loads(self.rfile.read(size))
            if self.path == "/enroll":
                name, made = self.server.authority.enrol(str(body["secret"]), str(body["csr"]).encode())
            elif self.path == "/renew":
                name = self._proven()
                made = self.server.authority.renew(name, str(body["csr"]).encode())
            else:
                self._say(404, {"error": "nothing here"})
                return
        except EdgeAgentError as error:
            self._say(403, {"error": str(error)})
        except (ValueError, KeyError, TypeError):
            self._say(400, {"error": "not a request"})
        else:
            print(f"{self.path[1:]} {name} from {self.client_address[0]}", file=sys.stderr)
            self._say(
                200, {"name": name, "certificate": made.decode(), **_settings(self.server.authority.place)}
            )

    def _proven(self) -> str:
        """Whose certificate the connection shows; the TLS layer has verified it and that it is not lost."""
        shown = self.connection.getpeercert(binary_form=True)
        if not shown:
            raise FleetError("no certificate was shown", remedy="enrol with a token")
        return common_name(x509.load_der_x509_certificate(shown))

    def _say(self, status: int, body: dict[str, Any]) -> None:
        self._answer(status, json.dumps(body).encode(), "application/json")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Paths and addresses are told above; secrets nowhere."""


def _settings(place: Path) -> dict[str, Any]:
    """What a new device is told beside its certificate."""
    path = place / "settings.json"
    told = json.loads(path.read_bytes()) if path.exists() else {}
    root = told.pop("root_file", "")
    if root:
        told["root"] = Path(root).read_text(encoding="utf-8")
    return {"settings": told}


def _request(pem: bytes) -> x509.CertificateSigningRequest:
    """A request whose signature proves the key; of it only the key is taken."""
    try:
        asked = x509.load_pem_x509_csr(pem)
        proven = asked.is_signature_valid
    except (ValueError, TypeError) as error:
        raise FleetError("that is no certificate request", remedy="send a CSR in PEM") from error
    key = asked.public_key()
    strong = isinstance(key, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) or (
        isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048
    )
    if not (proven and strong):
        raise FleetError("the request proves no usable key", remedy="send one of a P-256 key")
    return asked


def _write_key(path: Path, key: Any) -> None:
    pem = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_atomically(path, pem, mode=0o600)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _address(host: str) -> Any:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("init", "token", "serve", "sign", "revoke", "list"):
        actions.add_parser(name).add_argument("directory", type=Path)
    actions.choices["init"].add_argument("hosts", nargs="+")
    for name in ("token", "sign", "revoke"):
        actions.choices[name].add_argument("name")
    actions.choices["token"].add_argument("--minutes", type=float, default=TOKEN_MINUTES)
    actions.choices["serve"].add_argument("--port", type=int, default=8443)
    actions.choices["serve"].add_argument("--host", default="")
    return parser


def _do(args: argparse.Namespace) -> None:
    if args.action == "init":
        Authority.create(args.directory, args.hosts)
        print(f"{args.directory}/ca.crt")
        return
    authority = Authority(args.directory)
    if args.action == "token":
        print(authority.token(args.name, args.minutes))
    elif args.action == "sign":
        key, request = make_request(args.name)
        made = authority.renew(args.name, request)
        keep(args.directory / f"{args.name}.pem", key, made, args.name)
        write_atomically(args.directory / f"{args.name}.key", key, mode=0o600)
        write_atomically(args.directory / f"{args.name}.crt", made)
        print(f"{args.directory}/{args.name}.crt")
    elif args.action == "revoke":
        count = authority.revoke(args.name)
        print(f"{count} certificates of {args.name} are on {args.directory}/ca.crl; restart the broker")
    elif args.action == "list":
        for serial, one in authority.issued().items():
            state = (
                "revoked" if one["revoked"] else f"until {datetime.fromtimestamp(one['until'], UTC):%Y-%m-%d}"
            )
            print(f"{one['name']:32} {state:20} {serial[:12]}")
    else:
        service = Service(authority, args.host, args.port)
        print(f"listening on port {service.server_port}", file=sys.stderr, flush=True)
        service.serve_forever()


def main() -> int:
    """Do what the action says; a user's mistake is one line."""
    os.umask(0o077)
    try:
        _do(_parser().parse_args())
    except EdgeAgentError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
