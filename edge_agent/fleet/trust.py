"""Who may say what runs here: TUF's client workflow over the mirrors, by TUF's reference implementation.

The anchor is a root document that came with the enrolment. From it the client follows the signed chain
root -> timestamp -> snapshot -> targets, and keeps what it has seen in a directory of its own, so that an
older state is never taken again. Anything that does not hold refuses the whole; what serves goes on serving.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

from edge_agent.errors import EdgeAgentError, FleetError, NoMirror, Untrusted
from edge_agent.fleet.bundle import DOCUMENT_BYTES, Bundle, Target, read
from edge_agent.fleet.mirrors import Absent, Mirror, TooLong, Unreachable

_METADATA, _TARGETS = "mirror:///metadata/", "mirror:///targets/"
_NOT_FOUND = 404
_LIMITS = UpdaterConfig(
    max_root_rotations=64,
    max_delegations=4,
    root_max_length=64 << 10,
    timestamp_max_length=16 << 10,
    snapshot_max_length=256 << 10,
    targets_max_length=4 << 20,
)


class Trust:
    """What the fleet's keys say.

    Args:
        anchor: the root document of the enrolment.
        seen: directory of what was accepted so far; made when missing.
        mirrors: tried in order.

    Raises:
        Untrusted: the anchor cannot be read.
    """

    def __init__(self, anchor: Path, seen: Path, mirrors: Sequence[Mirror]) -> None:
        self._seen, self._mirrors = seen, tuple(mirrors)
        try:
            self._anchor = anchor.read_bytes()
        except OSError as error:
            raise Untrusted(
                f"fleet.root_file {anchor} cannot be read ({error.strerror})",
                remedy="copy the fleet's root.json there",
            ) from error

    def bundle(self, wanted: Target) -> Bundle:
        """The signed document of a bundle, by the newest state that a mirror can prove.

        Raises:
            Untrusted: no mirror has a state that holds, or it does not name this bundle.
            NoMirror: none can be read.
            FleetError: the directory cannot be written.
        """
        faults: list[EdgeAgentError] = []
        for source in self._mirrors:
            try:
                return self._ask(source, wanted)
            except (Untrusted, NoMirror) as error:
                faults.append(error)
        for fault in faults:
            if isinstance(fault, Untrusted):  # tells more than a mirror that is away
                raise fault
        if faults:
            raise faults[0]
        raise NoMirror("fleet.mirrors names no mirror", remedy="name one in the configuration")

    def _ask(self, source: Mirror, wanted: Target) -> Bundle:
        try:
            self._seen.mkdir(mode=0o700, parents=True, exist_ok=True)
            updater = Updater(
                str(self._seen),
                _METADATA,
                str(self._seen / "documents"),
                _TARGETS,
                _Fetcher(source),
                _LIMITS,
                bootstrap=self._anchor,
            )
            updater.refresh()
            found = updater.get_targetinfo(wanted.path)
            if found is None:
                raise Untrusted(
                    f"no signed {wanted.kind} {wanted}", remedy="sign it, or ask for one that is signed"
                )
            if found.length > DOCUMENT_BYTES:
                raise Untrusted(
                    f"the document of {wanted} has {found.length} bytes", remedy="sign a shorter one"
                )
            path = Path(updater.download_target(found))
            document = path.read_bytes()
            path.unlink()
        except (RepositoryError, DownloadError) as error:
            raise _translated(error, source.name) from error
        except OSError as error:
            raise FleetError(
                f"{self._seen} cannot be written ({error.strerror or error})", remedy="check the disk"
            ) from error
        return read(document, wanted)


class _Fetcher(FetcherInterface):
    """TUF's way to one mirror; TUF itself bounds the length of what it asks for."""

    def __init__(self, source: Mirror) -> None:
        self._source = source

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = url.removeprefix("mirror:///")
        # TUF stops reading beyond its own limit; this one is only a second wall.
        return _translating(self._source.read(path, 8 << 20), path)


def _translating(pieces: Iterator[bytes], path: str) -> Iterator[bytes]:
    try:
        yield from pieces
    except Absent as error:
        raise DownloadHTTPError(f"{path} is not there", _NOT_FOUND) from error
    except TooLong as error:
        raise DownloadLengthMismatchError(f"{path} does not end") from error
    except Unreachable as error:
        raise DownloadError(str(error)) from error


def _translated(error: Exception, mirror: str) -> EdgeAgentError:
    """Our own error for one of TUF's."""
    if isinstance(error, ExpiredMetadataError):
        return Untrusted(
            f"the signed list of {mirror} has expired: {error}",
            remedy="renew it (repository refresh), or check this device's clock",
        )
    if isinstance(error, UnsignedMetadataError):
        return Untrusted(f"the signed list of {mirror} is not signed by the fleet: {error}", remedy=_MIRROR)
    if isinstance(error, DownloadLengthMismatchError | LengthOrHashMismatchError):
        return Untrusted(f"{mirror} sends other bytes than were signed: {error}", remedy=_MIRROR)
    if isinstance(error, RepositoryError):
        return Untrusted(f"the signed list of {mirror} is refused: {error}", remedy=_MIRROR)
    return NoMirror(f"no answer from the mirror {mirror}: {error}", remedy="check the network and the mirror")


_MIRROR = "copy the repository to the mirror again; if that does not help, somebody changed it"
