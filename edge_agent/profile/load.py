"""Finds profile files. Of two files with the same name the one found first counts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge_agent.errors import ConfigError
from edge_agent.profile.schema import Loaded, Source, load

PACKAGE = Path(__file__).resolve().parents[1]


def search_path() -> tuple[Path, ...]:
    """EDGE_AGENT_PROFILES, /etc, then those of the installed package or of the source checkout."""
    named = os.environ.get("EDGE_AGENT_PROFILES")
    if named and not Path(named).is_dir():
        raise ConfigError(
            f"EDGE_AGENT_PROFILES names {named}, which is not a directory", remedy="correct or unset it"
        )
    own = (Path(named),) if named else ()
    # Beside an installed package another project's `profiles` may lie: only a checkout looks there.
    packaged = PACKAGE / "_profiles"
    shipped = packaged if packaged.is_dir() else PACKAGE.parent / "profiles"
    return (*own, Path("/etc/edge-agent/profiles.d"), shipped)


def load_all(
    places: Sequence[Path] | None = None, *, more: Mapping[str, Path] | None = None
) -> dict[str, Loaded]:
    """Every profile by name, abstract ones included.

    Args:
        places: directories in order of precedence; None: `search_path()`.
        more: further files by the names that they are to have.

    Raises:
        ConfigError: a file cannot be read or is wrong, or there is no profile at all.
    """
    directories = search_path() if places is None else places
    sources = _sources(directories)
    if not sources:
        looked = ", ".join(map(str, directories))
        raise ConfigError(f"there is no profile in {looked}", remedy="reinstall edge-asr-agent")
    for name, path in (more or {}).items():
        sources[name] = Source(path=str(path), text=_text(path))
    return {name: load(name, sources) for name in sorted(sources)}


def _sources(places: Sequence[Path]) -> dict[str, Source]:
    found: dict[str, Source] = {}
    for place in places:
        for path in sorted(place.glob("*.toml")):
            if path.stem not in found:
                found[path.stem] = Source(path=str(path), text=_text(path))
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or error}", remedy="check its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text", remedy="save it as UTF-8") from error
