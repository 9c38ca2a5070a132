"""Numbers in the running text are those of the program: defaults, bounds, sizes."""

from __future__ import annotations

import re
import subprocess
import sys

import msgspec
import pytest

from edge_agent import config, meaning
from edge_agent.audio.segment import EndpointConfig
from edge_agent.decoding.terms import TOKEN_BUDGET
from edge_agent.health import deep
from edge_agent.models.catalog import load_catalog
from edge_agent.mqtt import aside, commands, contract
from edge_agent.profile.load import load_all
from edge_agent.verbs.common import models_dir
from tests.docs.figures import FIGURES, TUNING
from tests.docs.pages import PAIRS, REPOSITORY, Language, path

LANGUAGES: tuple[Language, ...] = ("en", "zh")


def text(pair: str, language: Language) -> str:
    return path(pair, language).read_text(encoding="utf-8")


def defaults() -> dict[str, float]:
    """Key -> default, of the configuration and, for the endpoint, of the profile that all extend."""
    found: dict[str, float] = {}
    for section in msgspec.structs.fields(config.Config):
        for field in msgspec.structs.fields(type(section.default)):
            if isinstance(field.default, int | float):
                found[field.name] = field.default
    endpoint = load_all([REPOSITORY / "profiles"])["cpu-avx2"].profile.endpoint
    return {**found, **{k: v for k, v in msgspec.to_builtins(endpoint).items() if isinstance(v, int | float)}}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_key_with_a_number_behind_it_tells_its_default(language: Language) -> None:
    """As in `listen_s` (8)."""
    said = [
        (key, float(number))
        for pair in PAIRS
        for key, number in re.findall(r"`(?:\w+\.)?(\w+)`\*{0,2} ?[（(]([\d.]+)[)）]", text(pair, language))
    ]
    assert len(said) >= 6
    for key, number in said:
        assert defaults()[key] == number, key


@pytest.mark.parametrize("language", LANGUAGES)
def test_numbers_that_are_written_in_the_code(language: Language) -> None:
    """Each as it stands in the page, from where it stands in the program."""
    readme, tuning, threats, contracts = (
        text(pair, language) for pair in (PAIRS[0], PAIRS[2], PAIRS[4], PAIRS[1])
    )
    assert f"{load_catalog()['whisper-base'].size_bytes / 1e6:.0f} MB" in readme
    hours = config.OutboxSection().keep_delivered_h
    assert re.search(rf"\b{hours:.0f} (hours|小時)", readme)
    assert f"keep_delivered_h = {hours}" in readme
    for mode, silence_ms in meaning._SILENCE_MS.items():
        assert re.search(rf"`{mode}` \| {silence_ms} (ms|毫秒)", tuning)
        assert re.search(rf"{mode}[:：]\s?{silence_ms} (ms|毫秒)", readme)
    low, high = EndpointConfig().bounds_ms
    assert re.search(rf"`auto` \| {low} (to|到) {high} ", tuning)
    assert f"{deep._CLIPPED_DBFS} dBFS" in tuning
    assert re.search(rf"{deep._QUIET_DBFS:.0f}\s+dBFS", tuning)
    assert re.search(rf"{TOKEN_BUDGET} (個 )?token", tuning)
    assert f"{commands.MAX_BYTES // 1024} KiB" in threats
    assert f"{commands.MAX_BYTES // 1024} KiB" in contracts
    assert re.search(rf"{aside.PER_SECOND} (commands a second|道指令)", threats)
    assert len(contract.schema("command")["properties"]["type"]["enum"]) == 10
    assert re.search(r"\bten types\b|十種", threats)


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_a_box_needs(language: Language) -> None:
    """Memory as the profile asks for it; models and outbox leave the package half a gigabyte of the disk."""
    readme = text(PAIRS[0], language)
    wanted = load_all([REPOSITORY / "profiles"])["cpu-avx512-vnni"].profile.match.min_usable_ram_mb
    assert re.search(rf"{wanted} MB (of memory|記憶體)", readme)
    disk_gb = float(re.search(r"([\d.]+) GB (of disk|磁碟空間)", readme).group(1))
    names = [models_dir() / name for name in ("whisper-base", "whisper-tiny.en")]
    models_mb = sum(file.stat().st_size for name in names for file in name.rglob("*") if file.is_file()) / 1e6
    assert models_mb > 200
    assert models_mb + config.OutboxSection().quota_mb + 500 < disk_gb * 1000


def test_lines_of_chinese_are_not_broken() -> None:
    """A line break between two characters is shown as a blank."""
    wide = r"[\u3000-\u9fff\uff00-\uffef]"
    for pair in PAIRS:
        prose = re.sub(r"^```.*?^```$", "", text(pair, "zh"), flags=re.MULTILINE | re.DOTALL)
        broken = re.search(rf"^(?![|#]).*{wide}\n[ \t]*(?![-#|\d!<`]){wide}.*$", prose, re.MULTILINE)
        assert broken is None, broken.group()


@pytest.mark.slow
@pytest.mark.parametrize("command", sorted({f.command() for f in (*FIGURES, *TUNING)}))
def test_the_commands_behind_figures_take_their_options(command: str) -> None:
    """Each starts and knows the options that the table gives it; measuring itself is not done here."""
    words = command.split()[1:]
    done = subprocess.run(
        [sys.executable, *words, "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for option in (word for word in words if word.startswith("--")):
        assert option in done.stdout
