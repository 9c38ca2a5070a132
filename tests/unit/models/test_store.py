"""The store gives out sound models only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge_agent.errors import DigestMismatch, ModelError, ModelMissing
from edge_agent.models.catalog import DirSource
from edge_agent.models.fetch import pull
from edge_agent.models.store import ModelStore

from .small import small_files, small_model, write_dir


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """A store with the model "small" in it."""
    files = small_files()
    model = small_model(files, DirSource(path=str(write_dir(files, tmp_path / "origin"))))
    store = ModelStore(tmp_path / "models", catalog={"small": model})
    pull(model, store)
    return store


def test_a_missing_model_names_the_command_that_fetches_it(store: ModelStore) -> None:
    """The error's remedy can be pasted."""
    with pytest.raises(ModelMissing, match="run: edge-agent models pull whisper-base") as failure:
        store.path("whisper-base")
    assert failure.value.exit_code == 1


@pytest.mark.parametrize("name", ["../small", "", "a/b", ".hidden"])
def test_a_name_that_is_no_name_is_refused(store: ModelStore, name: str) -> None:
    """Names cannot leave the store's directory."""
    with pytest.raises(ModelMissing):
        store.path(name)


def test_a_truncated_file_is_told_with_both_sizes(store: ModelStore) -> None:
    """A short model.bin is refused before any library sees it."""
    os.truncate(store.source_dir("small") / "model.bin", 1000)
    with pytest.raises(DigestMismatch, match="1,000 bytes instead of 300,000") as failure:
        store.path("small")
    assert failure.value.remedy == "run: edge-agent models pull small"


def test_a_rewritten_file_is_told(store: ModelStore) -> None:
    """Another content of the same size is refused."""
    with (store.source_dir("small") / "model.bin").open("r+b") as file:
        file.write(b"damage")
    with pytest.raises(DigestMismatch, match="digest is wrong"):
        store.path("small")


def test_a_missing_file_is_told(store: ModelStore) -> None:
    """A removed file is a damaged model."""
    (store.source_dir("small") / "config.json").unlink()
    with pytest.raises(DigestMismatch, match="cannot be read"):
        store.path("small")


def test_a_copied_model_with_new_times_is_sound(store: ModelStore) -> None:
    """Only the content counts; the new time is noted, so that the digest is not taken again."""
    model_bin = store.source_dir("small") / "model.bin"
    os.utime(model_bin, ns=(1, 1))
    assert store.path("small") == store.source_dir("small")
    assert '"modified_ns": 1' in (store.source_dir("small") / "manifest.json").read_text()


def test_decay_that_keeps_size_and_time_is_found_by_verify(store: ModelStore) -> None:
    """verify takes the digests and does not trust times."""
    model_bin = store.source_dir("small") / "model.bin"
    before = model_bin.stat()
    with model_bin.open("r+b") as file:
        file.write(b"damage")
    os.utime(model_bin, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert store.path("small")
    (fault,) = store.verify("small")
    assert "model.bin" in fault


def test_the_published_name_is_that_of_the_content(store: ModelStore) -> None:
    """Name and first digits of model.bin's digest."""
    assert store.published_name("small") == store.catalog["small"].published_name
    assert len(store.published_name("small").split("@")[1]) == 12


def test_a_directory_with_other_bytes_is_not_imported_under_a_known_name(
    store: ModelStore, tmp_path: Path
) -> None:
    """A name of the catalogue admits its bytes only; under a name of its own the model is welcome."""
    other = write_dir({**small_files(100), "vocabulary.txt": b"a\n"}, tmp_path / "other")
    with pytest.raises(DigestMismatch, match="another name"):
        store.import_dir("small", other)
    assert store.path("small")
    store.import_dir("mine", other)
    assert store.path("mine") == store.source_dir("mine")
    assert [model.name for model in store.list()] == ["mine", "small"]


def test_a_directory_that_is_no_model_is_not_imported(store: ModelStore, tmp_path: Path) -> None:
    """What is missing is named, and nothing is left behind."""
    with pytest.raises(ModelError, match=r"config\.json, model\.bin|model\.bin, config\.json"):
        store.import_dir("mine", tmp_path)
    assert [model.name for model in store.list()] == ["small"]


def test_prune_removes_other_models_and_unfinished_work(store: ModelStore, tmp_path: Path) -> None:
    """What is kept stays sound; the freed bytes are counted."""
    store.import_dir("mine", write_dir({**small_files(5000), "vocabulary.txt": b"a\n"}, tmp_path / "other"))
    write_dir({"model.bin.partial": b"x" * 100}, store.source_dir("small").with_name("source.partial"))
    assert store.prune(keep=["small"]) > 5000
    assert [model.name for model in store.list()] == ["small"]
    assert not list(store.root.rglob("*.partial"))
    assert store.path("small")


def test_a_damaged_manifest_does_not_hide_the_model(store: ModelStore) -> None:
    """Half a manifest is damage; the list still shows the model, and pulling mends it without a source."""
    (store.source_dir("small") / "manifest.json").write_text('{"name": "sm')
    with pytest.raises(ModelError, match="edge-agent models pull small"):
        store.path("small")
    (listed,) = store.list()
    assert listed.published_name == "small@damaged"
    model = store.catalog["small"]
    pull(small_model(small_files()), store)
    assert store.published_name("small") == model.published_name
