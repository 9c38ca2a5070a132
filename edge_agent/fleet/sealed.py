"""A device's key at rest, sealed by its TPM: systemd's encrypted credentials.

What is sealed can be opened by this machine's TPM alone, and by default only as long as the state of Secure
Boot (PCR 7) is what it was. systemd opens it for the service that names it and puts it into memory that is
never swapped; on disk it is never in the clear, not even while it is made.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from edge_agent.errors import FleetError
from edge_agent.files import write_atomically

CREDENTIAL = "device.pem"
_LIMIT_S = 60.0
_PROGRAM = "systemd-creds"


def seal(secret: bytes, path: Path | None, *, device: str = "auto") -> None:
    """Write a file that this machine's TPM alone opens, after seeing that it does.

    Args:
        secret: key and certificate.
        path: of the sealed file; None only tries it.
        device: the TPM: "auto", a device file, or a TCTI as tpm2-tss names it ("swtpm:host=...,port=...").

    Raises:
        FleetError: no TPM, or it does not seal; nothing is written.
    """
    sealed = _run("encrypt", "--with-key=tpm2", f"--tpm2-device={device}", "-", "-", given=secret)
    with tempfile.NamedTemporaryFile(prefix="edge-agent-", suffix=".cred") as trial:
        trial.write(sealed)
        trial.flush()
        if unseal(Path(trial.name), device=device) != secret:
            raise FleetError("the TPM opens something else than it sealed", remedy="enrol without --tpm")
    if path is not None:
        write_atomically(path, sealed, mode=0o600)


def unseal(path: Path, *, device: str = "auto") -> bytes:
    """What was sealed.

    Raises:
        FleetError: another machine's, another state of it, or damaged.
    """
    return _run("decrypt", f"--tpm2-device={device}", str(path), "-")


def in_memory(secret: bytes) -> int:
    """A file without a name, for libraries that take a path only (/proc/self/fd/N); the caller closes it."""
    descriptor = os.memfd_create("device.pem", os.MFD_CLOEXEC)
    os.write(descriptor, secret)
    return descriptor


def drop_in(sealed: Path) -> bytes:
    """For the service's unit: it finds what was sealed as $CREDENTIALS_DIRECTORY/device.pem."""
    return (
        "# Made by the enrolment: key and certificate, sealed by the TPM.\n"
        f"[Service]\nLoadCredentialEncrypted={CREDENTIAL}:{sealed}\n"
    ).encode()


def _run(verb: str, *arguments: str, given: bytes = b"") -> bytes:
    command = [_PROGRAM, verb, f"--name={CREDENTIAL}", *arguments]
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FleetError(
            f"{_PROGRAM} cannot be used ({error})", remedy="it comes with systemd 250; or enrol without --tpm"
        ) from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = said[-1] if said else f"exit code {done.returncode}"
        raise FleetError(
            f"the TPM does not {'seal' if verb == 'encrypt' else 'open'} the key: {why}",
            remedy="see: systemd-creds has-tpm2; or enrol without --tpm",
        )
    return done.stdout
