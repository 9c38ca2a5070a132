"""The start, one straight line: probe -> facts -> choose profile -> resolve model -> open engine."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from edge_agent import forms
from edge_agent.engine.base import MODULES, Engine, EngineConfig, open_engine
from edge_agent.errors import EngineError, ModelError, ModelMissing
from edge_agent.hardware import facts, probe
from edge_agent.models.store import ModelStore
from edge_agent.profile.choose import Choice, choose, rank
from edge_agent.profile.load import load_all
from edge_agent.profile.schema import EngineChoice, Profile
from edge_agent.supervise import Level
from edge_agent.types import DecodeOptions, Device

log = logging.getLogger(__name__)

ENGINES = frozenset(MODULES) - {"scripted"}
"""Kinds of engine a profile may ask for in this version."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What the user asked for; what is empty comes from the profile."""

    models_dir: Path
    profile: str = "auto"
    model: str = ""
    """A name in the store, or a directory."""
    language: str | tuple[str, ...] = "en"
    beam: int | None = None
    prompt: str = ""
    terms: tuple[str, ...] = ()
    words: bool = True
    speculation: str = "auto"
    """Where drafts come from; "auto": as the profile says."""
    at_once: int = 0
    """Decodes wanted at once, at most those the machine is sized for; 0: all of those."""
    engine_dir: str = ""
    """A TensorRT-LLM engine that is not beside its model; empty: the one beside it."""
    more_profiles: tuple[tuple[str, str], ...] = ()
    """(name, file) of profiles beside those in the usual places."""
    root: Path = probe.LIVE_ROOT
    profiles: tuple[Profile, ...] = ()
    """All there are; empty: those of the files, read each time."""
    device: Device | None = None
    """The machine; None: as it is, looked at each time."""


class Recogniser(msgspec.Struct, frozen=True, kw_only=True):
    """An open engine with everything that explains it."""

    engine: Engine
    options: DecodeOptions
    choice: Choice
    device: Device
    model_name: str
    """Name and digest, as published."""


def choose_profile(wish: Wish) -> tuple[Device, Choice]:
    """The machine and the profile that serves it.

    Raises:
        NoProfileFits: none, or not the one asked for.
        ConfigError: a profile file is wrong.
    """
    device = wish.device or facts.device(probe.read(wish.root))
    return device, choose(device, _profiles(wish), override=wish.profile, engines=ENGINES)


def settled(wish: Wish) -> Wish:
    """The same with the profiles and the machine as they are now, for a running service.

    A file that is edited, and may be half written, changes nothing before the next start; and the smaller
    model that is to help under load is not refused because a quota was cut.

    Raises:
        ConfigError: a profile file is wrong.
    """
    device = wish.device or facts.device(probe.read(wish.root))
    return msgspec.structs.replace(wish, profiles=_profiles(wish), device=device)


def _profiles(wish: Wish) -> tuple[Profile, ...]:
    more = {name: Path(path) for name, path in wish.more_profiles}
    return wish.profiles or tuple(loaded.profile for loaded in load_all(more=more).values())


def resolve_model(wish: Wish, choice: Choice) -> tuple[Path, str]:
    """Directory and published name of the model that will be loaded, or that its form is made of.

    Raises:
        ModelMissing: not in the store.
        DigestMismatch: its files are damaged.
    """
    wanted = wanted_model(wish, choice)
    if "/" in wanted and Path(wanted).is_dir():
        return Path(wanted), Path(wanted).name
    store = ModelStore(wish.models_dir)
    return store.path(wanted, compute_type=choice.profile.engine.compute_type), store.published_name(wanted)


def wanted_model(wish: Wish, choice: Choice) -> str:
    """The model to load: the wish's, else the best that the profile knows and this device has, else the
    profile's own, which can always be fetched."""
    if wish.model:
        return wish.model
    store = ModelStore(wish.models_dir)
    better = choice.profile.engine.better_models
    here = (name for name in better if store.has_source(name) or store.has_prepared(name))
    return next(here, choice.profile.model_for(wish.language))


def open_recogniser(wish: Wish, level: Level = 0) -> Recogniser:
    """Do all of it; the engine is not warm yet.

    Args:
        wish: what the user asked for.
        level: 0: that; 1: with one worker; 2: the most modest other profile that fits this machine and has
            its model here, without the wish's own model.

    Raises:
        EdgeAgentError: each step's own kind.
    """
    device, choice = choose_profile(wish)
    if level == 2:
        wish, choice = fallback(wish, device, choice)
    elif level == 1:
        choice = msgspec.structs.replace(choice, workers=1)
    return open_or_next(wish, device, choice)


def open_or_next(wish: Wish, device: Device, choice: Choice) -> Recogniser:
    """Open the engine of `choice`; where a GPU's cannot be, that of the next profile, and say why.

    A profile that the user names falls back too: a deaf appliance helps nobody. On the CPU there is nothing
    simpler to fall back to, and the error stands.

    Raises:
        EdgeAgentError: each step's own kind, of the last profile tried.
    """
    profiles = {profile.name: profile for profile in _profiles(wish)}
    failed: list[tuple[str, str]] = []
    while True:
        try:
            return _open(wish, device, _with_reasons(wish, choice, failed))
        except (EngineError, ModelError) as error:
            if choice.profile.engine.device != "cuda":
                raise
            log.warning("profile %s cannot serve: %s", choice.profile.name, error)
            failed.append((choice.profile.name, error.cause))
            del profiles[choice.profile.name]
            choice = choose(device, profiles.values(), engines=ENGINES)


def _with_reasons(wish: Wish, choice: Choice, failed: list[tuple[str, str]]) -> Choice:
    """The choice with what was tried before it, and with the better models that are not here."""
    tried = [f"warning: {name} was tried first: {why}" for name, why in failed]
    better = choice.profile.engine.better_models
    wanted = wanted_model(wish, choice)
    if better and not wish.model and wanted != better[0]:
        tried.append(f"{better[0]} is not on this device, so {wanted} serves; see: edge-agent models convert")
    return msgspec.structs.replace(
        choice, reasons=(*tried, *choice.reasons), rejected=(*failed, *choice.rejected)
    )


def fallback(wish: Wish, device: Device, choice: Choice) -> tuple[Wish, Choice]:
    """The most modest profile but `choice`'s that fits and has its model here, and the wish for it.

    Raises:
        ModelMissing: there is none.
    """
    others = [profile for profile in _profiles(wish) if profile.name != choice.profile.name]
    for verdict in reversed(rank(device, others, ENGINES)):
        if not verdict.fits:
            continue
        name = verdict.profile.name
        modest = msgspec.structs.replace(wish, profile=name, model="")
        chosen = choose(device, others, override=name, engines=ENGINES)
        try:
            resolve_model(modest, chosen)
        except ModelError:
            continue
        return modest, chosen
    raise ModelMissing(
        f"no profile beside {choice.profile.name} fits this machine and has its model here",
        remedy="fetch a smaller model, for example: edge-agent models pull whisper-tiny.en",
    )


def has_smaller(wish: Wish) -> bool:
    """True when the fallback profile recognises with another model than the wish does.

    Raises:
        ConfigError: no profile fits at all.
    """
    device, choice = choose_profile(wish)
    try:
        modest, chosen = fallback(wish, device, choice)
    except ModelError:
        return False
    return wanted_model(modest, chosen) != wanted_model(wish, choice)


def _open(wish: Wish, device: Device, choice: Choice) -> Recogniser:
    wanted = choice.profile.engine
    form = forms.ready(ModelStore(wish.models_dir), wanted_model(wish, choice), wanted)
    if form.warning:
        told = f"warning: {form.warning}; CTranslate2 serves instead of onnxruntime"
        choice = msgspec.structs.replace(choice, reasons=(told, *choice.reasons))
    engine = open_engine(
        EngineConfig(
            kind=form.kind,
            model_dir=form.directory,
            model_name=form.name,
            compute_type=wanted.compute_type,
            device=wanted.device,
            workers=_workers(wish, choice),
            threads_per_worker=_threads(form, wanted, device),
            extra=_extra(wish, choice, form.kind),
        )
    )
    return Recogniser(
        engine=engine,
        options=decode_options(wish, choice),
        choice=choice,
        device=device,
        model_name=form.name,
    )


def _workers(wish: Wish, choice: Choice) -> int:
    """Decodes at once; of an engine file the number that it was built for, which is part of its key."""
    if choice.profile.engine.kind == "tensorrt-llm":
        return choice.workers
    return min(choice.workers, wish.at_once or choice.workers)


def _threads(form: forms.Form, wanted: EngineChoice, device: Device) -> int:
    """Of a decode: as the profile says, for onnxruntime as far as the machine has them; one where
    CTranslate2 stands in for it, as it has everywhere on the CPU."""
    if wanted.kind != "onnxruntime":
        return wanted.threads_per_worker
    if form.kind != wanted.kind:
        return 1
    return max(1, min(wanted.threads_per_worker, int(device.usable_cpus)))


def _extra(wish: Wish, choice: Choice, kind: str) -> dict[str, object]:
    """What only the engine of this kind knows."""
    if kind == "tensorrt-llm" and wish.engine_dir:
        return {"engine_dir": wish.engine_dir}
    if kind not in {"ctranslate2", "onnxruntime"}:
        return {}
    decode = choice.profile.decode
    wanted = decode.speculation if wish.speculation == "auto" else wish.speculation
    extra: dict[str, object] = {"speculation": wanted, "context": decode.context}
    if kind == "onnxruntime":
        extra["session"] = msgspec.to_builtins(choice.profile.engine.session)
    return extra


def decode_options(wish: Wish, choice: Choice) -> DecodeOptions:
    """What every decode is asked for."""
    language = wish.language if isinstance(wish.language, str) else "auto"
    allowed = () if isinstance(wish.language, str) else wish.language
    if len(allowed) == 1:
        language, allowed = allowed[0], ()
    return DecodeOptions(
        language=language,
        allowed_languages=allowed,
        prompt=wish.prompt,
        terms=wish.terms,
        beam=wish.beam or choice.profile.decode.beam,
        words=wish.words,
    )
