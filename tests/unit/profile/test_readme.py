"""The documentation of profiles says what is so."""

from __future__ import annotations

import re

import msgspec

from edge_agent.profile import schema
from edge_agent.profile.load import PACKAGE, load_all
from edge_agent.verbs import profiles
from tests import machines

SHIPPED = PACKAGE.parent / "profiles"
README = (SHIPPED / "README.md").read_text(encoding="utf-8")


def test_table_is_the_one_the_command_prints() -> None:
    """If this fails: put the output of `edge-agent profiles --markdown` into profiles/README.md."""
    loaded = [entry.profile for entry in load_all([SHIPPED]).values()]
    assert profiles.markdown(profiles.ordered(loaded)) in README


def test_table_of_machines_is_the_one_of_the_zoo() -> None:
    """If this fails: put the output of `python -m tests.machines` into profiles/README.md."""
    assert machines.table() in README


def test_every_key_is_explained() -> None:
    """A key that README.md does not name is one nobody finds."""
    kinds = (
        schema.Match, schema.GpuNeed, schema.EngineChoice, schema.Decode, schema.Vad, schema.Endpoint,
        schema.Limits, schema.Expect,
    )  # fmt: skip
    for kind in kinds:
        for field in msgspec.structs.fields(kind):
            assert re.search(rf"[`.]{field.name}[`.]", README), f"{kind.__name__}.{field.name}"


def test_every_number_says_where_it_comes_from() -> None:
    """A table of a shipped profile that sets numbers says in a comment where they come from."""
    for path in sorted(SHIPPED.glob("*.toml")):
        for table in path.read_text(encoding="utf-8").split("\n[")[1:]:
            numbers = re.findall(r"^(?!priority)\w+ = [0-9]", table, re.MULTILINE)
            assert not numbers or "\n# " in table, f"{path.name} [{table.partition(']')[0]}]"
