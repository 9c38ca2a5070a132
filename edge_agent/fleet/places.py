"""Where the fleet's bundles are on this device. Pure.

Models live in the store with all others, `NAME.vN` each. Profiles and engines live below the state directory:
`fleet/KIND/NAME.vN/` holds the files as they were signed, `bundle.json` and the golden recordings; one rename
makes it be there.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from edge_agent.fleet.bundle import Kind, Target

KINDS: tuple[Kind, ...] = get_args(Kind)
DOCUMENT = "bundle.json"


def home(target: Target, *, models_dir: Path, fleet_dir: Path) -> Path:
    """The directory of a bundle; of a model, the one that also holds its forms."""
    root = models_dir if target.kind == "model" else fleet_dir / target.kind
    return root / target.store_name


def papers(target: Target, *, models_dir: Path, fleet_dir: Path) -> Path:
    """The directory of its document and of its golden recordings."""
    place = home(target, models_dir=models_dir, fleet_dir=fleet_dir)
    return place / "bundle" if target.kind == "model" else place


def staging(target: Target, *, models_dir: Path, fleet_dir: Path) -> Path:
    """Where its files are fetched to, on the same file system."""
    root = models_dir / ".fleet" if target.kind == "model" else fleet_dir / target.kind / ".partial"
    return root / target.store_name


def profile_file(target: Target, fleet_dir: Path) -> Path:
    """The file of a profile bundle; it is called like the bundle."""
    return fleet_dir / "profile" / target.store_name / f"{target.name}.toml"


def activation_file(kind: Kind, fleet_dir: Path) -> Path:
    """The state of one kind's activation."""
    return fleet_dir / ("activation.json" if kind == "model" else f"activation-{kind}.json")
