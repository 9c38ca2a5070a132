"""Which form of a model is loaded, and what serves where the wanted one cannot be made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from edge_agent import forms
from edge_agent.errors import DiskFull, ModelMissing
from edge_agent.models.prepare import prepare
from edge_agent.models.store import ModelStore
from edge_agent.opening import Wish, choose_profile, open_recogniser
from edge_agent.profile.load import load_all
from edge_agent.profile.schema import EngineChoice
from edge_agent.selftest import clip, examine
from tests import machines
from tests.unit.engine.real import model_dir

NAME = "whisper-tiny.en"


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Holds tiny's published files."""
    found = ModelStore(tmp_path / "models", catalog={})
    found.import_dir(NAME, model_dir(NAME, prepared=False))
    return found


def _engine(kind: str) -> EngineChoice:
    base = load_all()["cpu-avx512-vnni"].profile.engine
    return msgspec.structs.replace(base, kind=kind)


def test_the_onnx_form_is_made_once(store: ModelStore) -> None:
    """And found the next time; another engine's form is not touched."""
    first = forms.ready(store, NAME, _engine("onnxruntime"))
    assert (first.kind, first.directory, first.warning) == ("onnxruntime", store.onnx_dir(NAME, "int8"), "")
    made = (first.directory / "decoder.bin").stat().st_mtime_ns
    assert forms.ready(store, NAME, _engine("onnxruntime")) == first
    assert (first.directory / "decoder.bin").stat().st_mtime_ns == made
    assert forms.ready(store, NAME, _engine("ctranslate2")).directory == store.source_dir(NAME)


@pytest.mark.parametrize("stale", ["older version", "other model", "cut short"])
def test_what_is_not_of_this_model_and_version_is_made_anew(store: ModelStore, stale: str) -> None:
    """After an update of the agent or of the model, and after damage."""
    directory = forms.ready(store, NAME, _engine("onnxruntime")).directory
    facts = json.loads((directory / "onnx.json").read_text())
    if stale == "cut short":
        (directory / "decoder.bin").write_bytes(b"")
    else:
        changed = {"older version": {"format": 1}, "other model": {"source": "0" * 64}}[stale]
        (directory / "onnx.json").write_text(json.dumps({**facts, **changed}))
    again = forms.ready(store, NAME, _engine("onnxruntime"))
    assert again.warning == ""
    assert json.loads((directory / "onnx.json").read_text()) == facts
    assert (directory / "decoder.bin").stat().st_size > 1_000_000


def test_where_it_cannot_be_made_ctranslate2_serves(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk deafens nobody, and the reason is told."""

    def full(*_: object) -> Path:
        raise DiskFull("no room left", remedy="free some space")

    monkeypatch.setattr(forms, "convert_to_onnx", full)
    found = forms.ready(store, NAME, _engine("onnxruntime"))
    assert (found.kind, found.directory, found.warning) == (
        "ctranslate2",
        store.source_dir(NAME),
        "no room left",
    )


def test_a_store_nothing_can_be_written_to_is_read(store: ModelStore) -> None:
    """Models of the system's, which the service may only read: nothing is made there, and all is heard."""
    store.lock_path(NAME).unlink()
    store.lock_path(NAME).mkdir()  # refuses to be opened for writing, to root as well
    found = forms.ready(store, NAME, _engine("onnxruntime"))
    assert (found.kind, found.directory) == ("ctranslate2", store.source_dir(NAME))
    assert str(store.lock_path(NAME).parent) in found.warning


def test_without_the_published_files_the_prepared_form_serves(store: ModelStore) -> None:
    """`models prune --sources` leaves nothing to make the ONNX form of."""
    prepare(NAME, store)
    shutil.rmtree(store.source_dir(NAME))
    found = forms.ready(store, NAME, _engine("onnxruntime"))
    assert (found.kind, found.directory) == ("ctranslate2", store.prepared_dir(NAME))


def test_a_model_that_is_not_here_is_missing_in_every_form(store: ModelStore) -> None:
    """One error, with the command that mends it."""
    with pytest.raises(ModelMissing, match="models pull"):
        forms.ready(store, "whisper-base", _engine("onnxruntime"))


def test_a_directory_is_loaded_as_what_it_is(store: ModelStore, tmp_path: Path) -> None:
    """CTranslate2's files by CTranslate2, ONNX files by onnxruntime."""
    onnx = forms.ready(store, NAME, _engine("onnxruntime")).directory
    assert forms.ready(store, str(onnx), _engine("onnxruntime")).kind == "onnxruntime"
    published = str(store.source_dir(NAME))
    assert forms.ready(store, published, _engine("onnxruntime")).kind == "ctranslate2"


@pytest.mark.parametrize("broken", [False, True])
def test_a_vnni_machine_hears_either_way(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """The whole opening: onnxruntime by its profile, or CTranslate2 with the reason in the choice."""
    if broken:

        def full(*_: object) -> Path:
            raise DiskFull("no room left", remedy="free some space")

        monkeypatch.setattr(forms, "convert_to_onnx", full)
    wish = Wish(models_dir=store.root, model=NAME, root=machines.HERE / "xeon-8260m-cascade-lake")
    _, choice = choose_profile(wish)
    opened = open_recogniser(wish)
    try:
        assert choice.profile.engine.kind == "onnxruntime"
        expected = "ctranslate2/int8" if broken else "onnxruntime/int8"
        assert opened.engine.info.kind == expected
        told = [reason for reason in opened.choice.reasons if "CTranslate2 serves instead" in reason]
        assert bool(told) == broken
        assert examine(opened.engine, opened.options, clip())[0] == ""
    finally:
        opened.engine.close()
