"""Tables in the documents are what the program, its schemas and the measurements say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from importlib.util import find_spec

import pytest

from tests.docs import house, tables
from tests.docs.figures import FIGURES, TUNING
from tests.docs.pages import PAIRS, REPOSITORY, Language, blocks, path

LANGUAGES: tuple[Language, ...] = ("en", "zh")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("pair", PAIRS)
def test_no_table_is_stale(pair: str, language: Language) -> None:
    """If this fails: python -m tests.docs. It names texts that tests/docs/words.toml has no Chinese for."""
    page = path(pair, language)
    assert page.read_text(encoding="utf-8") == tables.fresh(pair, language), page.name


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_readme_has_the_tables_that_readers_look_for(language: Language) -> None:
    """Verbs, topics, commands, profiles, figures."""
    assert set(blocks(path("README", language))) == {"verbs", "topics", "commands", "profiles", "figures"}


def test_every_word_is_used() -> None:
    """A text that the program no longer says is no longer translated."""
    used: set[str] = set()

    def remember(text: str, language: Language) -> str:
        used.add(text)
        return text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "said", remember)
        patch.setattr(house, "said", remember)
        for make in tables.MAKERS.values():
            make("zh")
        house.svg("zh")
    assert set(tables._words()) == used - {""}


@pytest.mark.parametrize("figure", [*FIGURES, *TUNING], ids=lambda figure: figure.en[:40])
def test_each_figure_names_the_command_that_measures_it(figure: object) -> None:
    """The command's module is there, and its cells are in the section that it writes."""
    command = figure.command()
    module = re.search(r"tests[./]benchmarks[./\w]*", command).group().removesuffix(".py").replace("/", ".")
    spec = find_spec(module)
    assert spec is not None, command
    assert spec.origin is not None
    (section,) = {cell.section for cell in figure.cells}
    with open(spec.origin, encoding="utf-8") as source:
        assert re.search(rf'["\']{section.removesuffix("-onnxruntime")}', source.read()), (section, module)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_picture_is_fresh_and_can_be_heard(language: Language) -> None:
    """Well-formed, with a title and a description; the page has a text for it, too."""
    file = house.path(language)
    text = file.read_text(encoding="utf-8")
    assert text == house.svg(language), "python -m tests.docs"
    root = ET.fromstring(text)
    name = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{name}title")
    assert len(root.findtext(f"{name}desc") or "") > 30
    picture = re.search(
        rf"!\[([^\]]+)\]\({file.relative_to(REPOSITORY)}\)",
        path("README", language).read_text(encoding="utf-8"),
    )
    assert picture is not None
    assert len(picture.group(1)) > 30
