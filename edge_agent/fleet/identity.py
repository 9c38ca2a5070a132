"""A device's key, made where it stays, and the requests it signs. Key and certificate lie in one file, so
that a renewal replaces both at once."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge_agent.errors import FleetError, UsageError
from edge_agent.files import write_atomically
from edge_agent.types import Value

MODE = 0o600


class Token(Value, frozen=True):
    """What an operator hands to a device: who it is to be, a secret good once, whom to believe."""

    name: str
    secret: str
    ca_sha256: str
    """Of the CA's certificate: the first connection needs no other trust."""

    def __str__(self) -> str:
        return f"{self.secret}.{self.ca_sha256}.{self.name}"


def parse_token(text: str) -> Token:
    """Read a token as a person pasted it.

    Raises:
        UsageError: it is none.
    """
    parts = text.strip().split(".", 2)
    if len(parts) != 3 or not all(parts) or len(parts[1]) != 64:
        raise UsageError("that is no claim token", remedy="paste the whole line that `ca.py token` printed")
    return Token(secret=parts[0], ca_sha256=parts[1], name=parts[2])


def make_request(name: str) -> tuple[bytes, bytes]:
    """A new P-256 key and a request for its certificate, both PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem, request.public_bytes(serialization.Encoding.PEM)


def keep(path: Path, key: bytes, certificate: bytes, name: str) -> None:
    """Write both into one file, readable by its owner only, after seeing that they belong together.

    Raises:
        FleetError: the certificate is another key's or another name's; nothing is written.
    """
    write_atomically(path, paired(key, certificate, name), mode=MODE)


def paired(key: bytes, certificate: bytes, name: str) -> bytes:
    """Both, one after the other.

    Raises:
        FleetError: the certificate is another key's or another name's.
    """
    made = _certificate(certificate)
    private = serialization.load_pem_private_key(key, None)
    if _public(made.public_key()) != _public(private.public_key()):
        raise FleetError("the certificate is that of another key", remedy="enrol again")
    if common_name(made) != name:
        raise FleetError(f'the certificate names "{common_name(made)}", not "{name}"', remedy="enrol again")
    return key + certificate


def days_left(path: Path, now: datetime | None = None) -> float:
    """Until the certificate in a file expires.

    Raises:
        FleetError: there is none.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise FleetError(f"{path} cannot be read ({error.strerror})", remedy="enrol this device") from error
    until = _certificate(text[text.find(b"-----BEGIN CERTIFICATE") :]).not_valid_after_utc
    return (until - (now or datetime.now(UTC))).total_seconds() / 86400


def fingerprint(pem: bytes) -> str:
    """sha256 of a certificate, 64 hexadecimal digits.

    Raises:
        FleetError: it is none.
    """
    try:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))).hexdigest()
    except (ValueError, UnicodeDecodeError) as error:
        raise FleetError("the answer is no certificate", remedy="check the address of the CA") from error


def common_name(certificate: x509.Certificate) -> str:
    """Who it names."""
    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _certificate(pem: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise FleetError("the answer is no certificate", remedy="check the CA") from error


def _public(key: object) -> bytes:
    assert hasattr(key, "public_bytes")
    encoded: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded
