"""Opening: the model that is there, and the next profile when a GPU's engine cannot be opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent import opening
from edge_agent.engine.base import Engine, EngineConfig
from edge_agent.errors import ConfigError, EngineLoadFailed, ModelMissing
from edge_agent.hardware import facts, probe
from edge_agent.opening import Wish, choose_profile, open_or_next, settled, wanted_model
from edge_agent.profile.choose import choose
from edge_agent.profile.load import load_all
from edge_agent.types import DecodeOptions, EngineInfo, Hypothesis, PcmFloat
from tests import machines


class _Deaf:
    """An engine that opens and no more."""

    info = EngineInfo(kind="test", model="m@0")

    def warm_up(self) -> None:
        return

    def transcribe(
        self, pcm: PcmFloat, *, options: DecodeOptions, draft: Hypothesis | None = None
    ) -> Hypothesis:
        return Hypothesis(text="")

    def close(self) -> None:
        return


def _store(tmp_path: Path, *names: str) -> Path:
    from edge_agent.models.store import ModelStore

    source = tmp_path / "published"
    source.mkdir()
    for file in ("model.bin", "config.json", "vocabulary.json"):
        (source / file).write_text("{}")
    for name in names:
        ModelStore(tmp_path / "store", catalog={}).import_dir(name, source)
    return tmp_path / "store"


def _open(wish: Wish, machine: str, monkeypatch: pytest.MonkeyPatch, *, broken: str) -> opening.Recogniser:
    """On a machine of the zoo, where engines on `broken` cannot be opened."""

    def opened(config: EngineConfig) -> Engine:
        if config.device == broken:
            raise EngineLoadFailed("CUDA failed with error out of memory", remedy="use less")
        return _Deaf()

    monkeypatch.setattr(opening, "open_engine", opened)
    device = facts.device(probe.read(machines.HERE / machine))
    profiles = [loaded.profile for loaded in load_all().values()]
    return open_or_next(wish, device, choose(device, profiles, engines=opening.ENGINES))


def test_the_best_model_here_is_taken(tmp_path: Path) -> None:
    """Breeze before turbo before small before base; the user's own word before all."""
    device = facts.device(probe.read(machines.HERE / "pc-rtx-4090-cuda"))
    choice = choose(device, [loaded.profile for loaded in load_all().values()], engines=opening.ENGINES)
    store = _store(tmp_path, "whisper-small", "whisper-large-v3-turbo")
    assert wanted_model(Wish(models_dir=store), choice) == "whisper-large-v3-turbo"
    assert wanted_model(Wish(models_dir=store, model="whisper-tiny.en"), choice) == "whisper-tiny.en"
    assert wanted_model(Wish(models_dir=tmp_path / "none"), choice) == "whisper-base"


def test_a_gpu_that_works_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profile chosen is the one opened; the better model that is missing is told."""
    wish = Wish(models_dir=_store(tmp_path, "whisper-base"))
    opened = _open(wish, "pc-rtx-4090-cuda", monkeypatch, broken="")
    assert opened.choice.profile.name == "rtx-24gb"
    assert any("breeze-asr-25 is not on this device" in reason for reason in opened.choice.reasons)


def test_a_gpu_that_fails_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every GPU profile is tried, then the CPU serves, and the reasons tell what happened."""
    wish = Wish(models_dir=_store(tmp_path, "whisper-base"))
    opened = _open(wish, "pc-rtx-4090-cuda", monkeypatch, broken="cuda")
    assert opened.choice.profile.name == "cpu-avx2"
    tried = [reason for reason in opened.choice.reasons if "was tried first" in reason]
    assert tried[0] == "warning: rtx-24gb was tried first: CUDA failed with error out of memory"
    assert len(tried) == 3
    assert dict(opened.choice.rejected)["rtx-24gb"]


def test_on_the_cpu_the_error_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing simpler to fall back to without being asked."""
    with pytest.raises(ModelMissing, match="whisper-base"):
        _open(Wish(models_dir=tmp_path), "ryzen-9-5950x", monkeypatch, broken="")


def test_a_profile_that_is_edited_under_a_running_service_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file half written while the service wants another recogniser must not end it."""
    monkeypatch.setenv("EDGE_AGENT_PROFILES", str(tmp_path))
    wish = settled(Wish(models_dir=tmp_path, root=machines.HERE / "raspberry-pi-4"))
    before = choose_profile(wish)[1].profile.name
    (tmp_path / "half.toml").write_text('extends = "base"\n[engi')
    assert choose_profile(wish)[1].profile.name == before
    with pytest.raises(ConfigError):
        settled(Wish(models_dir=tmp_path))


def test_a_quota_that_is_cut_under_a_running_service_refuses_no_smaller_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fitted at the start fits until the end: a machine under load needs its fallback most."""
    wish = settled(Wish(models_dir=_store(tmp_path, "whisper-base"), root=machines.HERE / "raspberry-pi-4"))
    before = choose_profile(wish)[1].profile.name
    monkeypatch.setattr(opening.facts, "device", lambda _raw: pytest.fail("looked at again"))
    assert choose_profile(wish)[1].profile.name == before


def test_an_engine_that_was_not_built_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-LLM without its model: CTranslate2 on the same GPU serves."""
    wish = Wish(models_dir=_store(tmp_path, "whisper-base"))
    opened = _open(wish, "server-h200-tensorrt-llm", monkeypatch, broken="")
    assert opened.choice.profile.name == "datacentre"
    assert any("datacentre-trtllm was tried first" in reason for reason in opened.choice.reasons)
