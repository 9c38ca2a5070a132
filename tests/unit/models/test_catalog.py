"""The catalogue names models by content and refuses what it cannot use."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import ConfigError, ModelMissing
from edge_agent.models.catalog import DEFAULT_MODEL, HubSource, WheelSource, find_model, load_catalog

GOOD = """
[mine]
licence = "MIT"
description = "mine"
files = [{ path = "model.bin", size_bytes = 1, sha256 = "%s" }]
""" % ("a" * 64)


def test_the_shipped_models_are_the_published_ones() -> None:
    """Two models, with the digests of their public releases, each from packages and from the hub."""
    catalog = load_catalog()
    assert set(catalog) == {"whisper-base", "whisper-tiny.en"}
    assert catalog["whisper-base"].published_name == "whisper-base@d01c3014881c"
    assert catalog["whisper-tiny.en"].published_name == "whisper-tiny.en@1a5afae06a4d"
    assert catalog["whisper-tiny.en"].languages == ("en",)
    for model in catalog.values():
        assert [type(source) for source in model.sources] == [WheelSource, HubSource]
        paths = {file.path for file in model.files}
        assert paths == {"model.bin", "config.json", "tokenizer.json", "vocabulary.txt"}
        for source in model.sources:
            if isinstance(source, WheelSource):
                assert {path for wheel in source.wheels for path in wheel.members} == paths
    assert DEFAULT_MODEL in catalog


def test_an_operators_catalogue_adds_and_replaces(tmp_path: Path) -> None:
    """Names of the second catalogue win over the shipped ones."""
    extra = tmp_path / "more.toml"
    extra.write_text(GOOD + GOOD.replace("[mine]", "[whisper-base]"))
    catalog = load_catalog(extra)
    assert set(catalog) == {"whisper-base", "whisper-tiny.en", "mine"}
    assert catalog["whisper-base"].description == "mine"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[mine", "at end of document"),
        ("mine = 3", "not a table"),
        (GOOD.replace("licence", "license"), "license"),
        (GOOD.replace("model.bin", "../model.bin"), "not a plain file name"),
        (GOOD.replace("model.bin", "other.bin"), "model.bin is missing"),
        (GOOD.replace("a" * 64, "abc"), "64 lower-case"),
        (GOOD.replace("[mine]", '["../mine"]'), "not a usable name"),
        (GOOD.replace("= 1,", "= -1,"), "negative"),
        (GOOD + '[[mine.sources]]\nkind = "carrier-pigeon"\n', "carrier-pigeon"),
    ],
)
def test_a_wrong_catalogue_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    """Each mistake is told with the file and the place, on one line."""
    extra = tmp_path / "more.toml"
    extra.write_text(text)
    with pytest.raises(ConfigError, match=told) as failure:
        load_catalog(extra)
    assert "more.toml" in failure.value.cause
    assert "\n" not in str(failure.value)


def test_a_missing_catalogue_is_told(tmp_path: Path) -> None:
    """A catalogue that is not there is a configuration error."""
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load_catalog(tmp_path / "none.toml")


def test_an_unknown_name_lists_the_known_ones() -> None:
    """The remedy names what can be had."""
    with pytest.raises(ModelMissing, match=r"whisper-base, whisper-tiny\.en"):
        find_model(load_catalog(), "whisper-huge")
