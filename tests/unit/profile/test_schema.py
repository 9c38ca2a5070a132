"""Profile files: what extends means, and how a mistake is told."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import ConfigError
from edge_agent.profile.schema import Profile, Source, load
from tests.unit.profile.making import BASE, profile, sources


def test_tables_merge_and_values_replace() -> None:
    """A child changes one key of a table and keeps the others; lists are replaced whole."""
    child = profile("child", '[decode]\nbeam = 5\n[match]\narch = ["aarch64"]\n')
    base = load("base", sources()).profile
    assert child.decode.beam == 5
    assert child.match.arch == ("aarch64",)
    assert child.decode.context == base.decode.context
    assert child.engine == base.engine
    assert child.extends == ("base",)


def test_each_key_knows_its_file() -> None:
    """What `profiles show` prints: the file that had the last word."""
    files = sources(
        middle='extends = "base"\ndescription = "m"\n[vad]\nthreshold = 0.6\n',
        leaf='extends = "middle"\ndescription = "l"\n[match.gpu]\nvendor = "nvidia"\n',
    )
    loaded = load("leaf", files)
    assert loaded.profile.extends == ("middle", "base")
    assert loaded.origins["vad.threshold"] == "middle.toml"
    assert loaded.origins["match.gpu.vendor"] == "leaf.toml"
    assert loaded.origins["endpoint.silence_ms"] == "profiles/base.toml"
    assert loaded.origins["description"] == "leaf.toml"


def test_what_is_said_of_one_file_is_not_handed_down() -> None:
    """A child of a profile that ran on hardware has not run itself, and a child of base may be chosen."""
    files = sources(
        parent='extends = "base"\ndescription = "p"\nstatus = "run on hardware"\n',
        child='extends = "parent"\ndescription = "c"\n',
    )
    child = load("child", files).profile
    assert child.status == "not yet run on hardware"
    assert not child.abstract


@pytest.mark.parametrize(
    ("files", "name", "message"),
    [
        ({"a": 'extends = "b"', "b": 'extends = "a"'}, "a", "b.toml: extends runs in a circle: a -> b -> a"),
        ({"a": 'extends = "a"'}, "a", "circle: a -> a"),
        ({"a": 'extends = "bass"'}, "a", 'extends "bass", and there is no such profile; did you mean base?'),
        (
            {"a": 'extends = "b"', "b": 'extends = "c"', "c": 'extends = "d"', "d": 'extends = "base"'},
            "a",
            "more than 3 deep: a -> b -> c -> d -> base",
        ),
        ({"a": "extends = 3"}, "a", "a.toml: extends: Expected `str`"),
        ({"a": "[engine]\nmodle = 'x'"}, "a", "a.toml: unknown key engine.modle; did you mean engine.model?"),
        ({"a": "[match.gpu]\nvram = 1"}, "a", "unknown key match.gpu.vram; did you mean match.gpu.min_vram"),
        ({"a": "endpiont = 1"}, "a", "unknown key endpiont; did you mean endpoint?"),
        ({"a": "[decode]\nbeam = 'five'"}, "a", "a.toml: decode.beam: Expected `int`"),
        ({"a": "[decode]\nbeam = 0"}, "a", "a.toml: decode.beam: Expected `int` >= 1"),
        ({"a": "engine = 'ctranslate2'"}, "a", "a.toml: engine: Expected `object`, got `str`"),
        ({"a": "[engine]\nworkers = 'many'"}, "a", "a.toml: engine.workers"),
        ({"a": "[match.gpu]\nmin_compute = 'eight'"}, "a", "a.toml: match.gpu.min_compute"),
        ({"a": "name = 'b'"}, "a", "a.toml: unknown key name"),
        ({"a": "not toml"}, "a", "a.toml is not valid TOML"),
        ({"a": "description = 'x'"}, "a", 'a.toml: engine is set neither here nor in a profile'),
        ({"a": 'extends = "base"'}, "a", "a.toml: description is set neither here"),
        (
            {"a": "description = 'x'\n[engine]\nkind = 'x'"},
            "a",
            "a.toml: engine.model is set neither here",
        ),
        ({"a": 'extends = "base"\ndescription = ""\n[vad]\nexit_threshold = 0.9'}, "a", "above vad.thr"),
        ({"a": 'extends = "base"\ndescription=""\n[endpoint]\nprobe_ms = 900'}, "a", "above endpoint."),
        (
            {"a": 'extends = "base"\ndescription = ""\n[engine]\nmultilingual_model = "x.en"'},
            "a",
            "a.toml: engine.multilingual_model knows English only",
        ),
    ],
)  # fmt: skip
def test_mistakes_name_file_key_and_remedy(files: dict[str, str], name: str, message: str) -> None:
    """One line with the file, the key and the next step; exit code 78."""
    with pytest.raises(ConfigError) as failure:
        load(name, sources(**files))
    assert message in str(failure.value)
    assert "\n" not in str(failure.value)
    assert failure.value.exit_code == 78


def test_a_mistake_in_a_parent_names_the_parent() -> None:
    """The reader must not search the file that is right."""
    files = sources(parent="[decode]\nbeam = 'x'\n", child='extends = "parent"\n')
    with pytest.raises(ConfigError, match=r"^parent\.toml: decode\.beam"):
        load("child", files)


@pytest.mark.parametrize(
    ("language", "model"),
    [
        ("en", "tiny.en"),
        ("en-GB", "tiny.en"),
        ("de", "base"),
        ("auto", "base"),
        (("en", "de"), "base"),
        (("en",), "tiny.en"),
    ],
)
def test_english_model_serves_english_alone(language: str | tuple[str, ...], model: str) -> None:
    """Any other language, or one that is not known beforehand, needs the multilingual model."""
    chosen = profile("p", '[engine]\nmodel = "tiny.en"\nmultilingual_model = "base"\n')
    assert chosen.model_for(language) == model


def test_multilingual_model_serves_all() -> None:
    """Nothing changes by language where the first choice knows them all."""
    chosen = profile("p", '[engine]\nmodel = "large"\nmultilingual_model = "base"\n')
    assert chosen.model_for("zh") == "large"


SCALAR = st.booleans() | st.integers(-9, 9) | st.text(max_size=5)


def _lines(values: dict[str, bool | int | str]) -> str:
    """TOML of plain values; JSON writes them alike, but for escapes beyond the basic plane."""
    return 'description = "t"\nextends = "base"\n' + "".join(
        f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()
    )


@given(
    st.dictionaries(st.sampled_from(["engine", "decode", "match", "vad", "status", "abstract", "x"]), SCALAR)
)
def test_any_values_end_in_a_profile_or_one_clear_error(values: dict[str, bool | int | str]) -> None:
    """Nothing but ConfigError escapes, whatever types the keys have."""
    files = {"base": BASE, "a": Source(path="a.toml", text=_lines(values))}
    if set(values) <= {"abstract"} and all(isinstance(value, bool) for value in values.values()):
        assert isinstance(load("a", files).profile, Profile)
        return
    with pytest.raises(ConfigError, match=r"a\.toml"):
        load("a", files)


@given(st.text())
def test_any_text_ends_in_a_profile_or_one_clear_error(text: str) -> None:
    """Nothing but ConfigError escapes, whatever the file holds."""
    with pytest.raises(ConfigError, match=r"a\.toml"):
        load("a", {"base": BASE, "a": Source(path="a.toml", text=text)})


NAMES = st.sampled_from(["a", "b", "c", "d"])


@given(st.dictionaries(NAMES, NAMES | st.just("base")), NAMES)
def test_extends_always_ends(parents: dict[str, str], name: str) -> None:
    """However files extend each other, loading ends; a profile is made only from a whole chain."""
    files = sources(
        **{child: f'extends = "{parent}"\ndescription = "t"\n' for child, parent in parents.items()}
    )
    if name not in files:
        return
    try:
        made = load(name, files).profile
    except ConfigError:
        return
    assert made.extends[-1] == "base"
    assert len(made.extends) <= 3
