"""Where profile files are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.errors import ConfigError
from edge_agent.profile import load
from edge_agent.profile.load import PACKAGE, load_all

SHIPPED = PACKAGE.parent / "profiles"


def test_shipped_profiles_load() -> None:
    """The profiles of this repository are right, whatever else is on the machine."""
    assert set(load_all([SHIPPED])) == {path.stem for path in SHIPPED.glob("*.toml")}
    assert {"base", "cpu-avx2", "rtx-8gb", "jetson-orin-nano"} <= set(load_all([SHIPPED]))


def test_a_file_found_earlier_hides_one_of_the_same_name(tmp_path: Path) -> None:
    """An operator's file replaces the shipped one, and shipped files that extend it see the new one."""
    text = (SHIPPED / "base.toml").read_text(encoding="utf-8").replace("silence_ms = 600", "silence_ms = 700")
    (tmp_path / "base.toml").write_text(text, encoding="utf-8")
    loaded = load_all([tmp_path, SHIPPED])
    assert loaded["base"].origins["endpoint.silence_ms"] == str(tmp_path / "base.toml")
    assert loaded["cpu-avx2"].profile.endpoint.silence_ms == 700


def test_directory_named_by_the_environment_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EDGE_AGENT_PROFILES is for trying a profile without installing it."""
    (tmp_path / "mine.toml").write_text('extends = "base"\ndescription = "mine"\n', encoding="utf-8")
    monkeypatch.setenv("EDGE_AGENT_PROFILES", str(tmp_path))
    assert load.search_path()[0] == tmp_path
    assert "mine" in load_all()


def test_directory_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped EDGE_AGENT_PROFILES is told, not passed over."""
    monkeypatch.setenv("EDGE_AGENT_PROFILES", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"EDGE_AGENT_PROFILES names .*nowhere"):
        load_all()


def test_no_profile_anywhere(tmp_path: Path) -> None:
    """A broken installation says where it looked."""
    with pytest.raises(ConfigError, match=str(tmp_path)):
        load_all([tmp_path])


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    """Bytes that are no text, or a folder in place of a file, are one clear line."""
    path = tmp_path / "odd.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"odd\.toml"):
        load_all([tmp_path, SHIPPED])
