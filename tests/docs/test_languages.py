"""Both languages tell the same: headings, commands, figures, messages; and the Chinese is Taiwan's."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import opencc
import pytest

from edge_agent.config import Config
from edge_agent.mqtt import contract
from edge_agent.profile.load import load_all
from edge_agent.strict_toml import convert
from tests.docs.pages import PAIRS, REPOSITORY, all_pages, blocks, commands, fences, headings, path

DIFFERENT = (
    *(
        "軟件",
        "硬件",
        "網絡",
        "數據",
        "默認",
        "文件夾",
        "內存",
        "服務器",
        "代碼",
        "線程",
        "進程",
        "視頻",
        "音頻",
    ),
    *("信息", "質量", "支持", "登錄", "缺省", "實時", "激活", "接口", "隊列長", "卸載", "打印", "字符"),
)
"""Words of the mainland for which Taiwan has others."""


_EITHER = str.maketrans("臺迴", "台回")
"""Both are written in Taiwan; OpenCC knows one."""


@pytest.mark.parametrize("pair", PAIRS)
def test_the_same_structure(pair: str) -> None:
    """As many headings of each level in the same order, the same commands, settings, messages and tables."""
    en, zh = path(pair, "en"), path(pair, "zh")
    assert headings(en) == headings(zh)
    assert commands(en) == commands(zh)
    assert list(blocks(en)) == list(blocks(zh))
    for kind in ("json",):
        assert [json.loads(f.text) for f in fences(en, kind)] == [
            json.loads(f.text) for f in fences(zh, kind)
        ]
    assert [tomllib.loads(f.text) for f in fences(en, "toml")] == [
        tomllib.loads(f.text) for f in fences(zh, "toml")
    ]


@pytest.mark.parametrize("pair", PAIRS)
def test_the_same_facts(pair: str) -> None:
    """Each page points to the same places and has as many rows in its tables."""

    def links(page: Path) -> list[str]:
        found = re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8"))
        return sorted(set(found) - {path(pair, "en").name, path(pair, "zh").name})

    def same(targets: list[str]) -> list[str]:
        return sorted({target.replace(".zh-TW", "") for target in targets})

    def rows(page: Path) -> int:
        return sum(line.startswith("|") for line in page.read_text(encoding="utf-8").splitlines())

    en, zh = path(pair, "en"), path(pair, "zh")
    assert same(links(en)) == same(links(zh))
    assert rows(en) == rows(zh)


@pytest.mark.parametrize("pair", PAIRS)
def test_no_simplified_characters_and_taiwans_words(pair: str) -> None:
    """What OpenCC would still make traditional is not; nor is there a word that Taiwan says otherwise."""
    text = path(pair, "zh").read_text(encoding="utf-8")
    converter = opencc.OpenCC("s2tw")
    for line in text.splitlines():
        prose = re.sub(r"`[^`]*`", "", line)
        assert converter.convert(prose).translate(_EITHER) == prose.translate(_EITHER)
        assert not [word for word in DIFFERENT if word in prose], prose
    share = len(re.findall(r"[\u4e00-\u9fff]", text)) / len(re.sub(r"\s", "", text))
    assert share > 0.1, "it is Chinese"


def test_chinese_pages_lead_to_chinese_pages() -> None:
    """Where a page is there in both languages, a reader stays in his own."""
    for pair in PAIRS:
        page = path(pair, "zh")
        for target in re.findall(r"\]\(([^)#]+\.md)", page.read_text(encoding="utf-8")):
            other = (page.parent / target).with_suffix("")
            if not target.endswith(".zh-TW.md") and other.with_suffix(".zh-TW.md").exists():
                assert other == path(pair, "en").with_suffix(""), f"{page.name}: {target}"


def test_no_link_is_dead() -> None:
    """Every relative link and picture is there."""
    for page in all_pages():
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(REPOSITORY)}: {target}"


@pytest.mark.parametrize("page", all_pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_settings_are_taken_as_they_are_shown(page: Path, tmp_path: Path) -> None:
    """Each TOML block is a configuration, or a profile where it extends one."""
    for fence in fences(page, "toml"):
        if "extends" in tomllib.loads(fence.text):
            (tmp_path / "own.toml").write_text(fence.text, encoding="utf-8")
            assert "own" in load_all([tmp_path, REPOSITORY / "profiles"])
        else:
            convert(tomllib.loads(fence.text), Config, page.name)


@pytest.mark.parametrize("pair", PAIRS)
def test_messages_keep_to_the_contract(pair: str) -> None:
    """Each JSON block is a command, a desired configuration or a transcript, with nothing unknown in it."""
    for fence in fences(path(pair, "en"), "json"):
        body = json.loads(fence.text)
        kind = body.get("schema", "desired/1").split("/")[0]
        assert contract.problems(kind, body, strict=True) == []


def test_each_claim_of_the_threat_model_has_its_proof() -> None:
    """The test that a row names is there, and the same one in both languages."""
    named = [
        re.findall(
            r"`(tests/[\w/]+\.py)(?:::(\w+))?`", path("provisioning/docs/threat-model", it).read_text("utf-8")
        )
        for it in ("en", "zh")
    ]
    assert named[0] == named[1]
    assert len(named[0]) > 10
    for file, test in named[0]:
        assert not test or f"def {test}(" in (REPOSITORY / file).read_text(encoding="utf-8"), (
            f"{file}::{test}"
        )
        assert (REPOSITORY / file).exists()
