"""What a new model needs done before it serves, in processes of their own: `python -m edge_agent.backstage`.

Fetching, unpacking and the first decode of a file that came from outside may crash, hang or take all memory:
here that costs a child. One job as JSON on stdin, one answer as JSON on the last line of stdout.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import signal
import sys
import time
from contextlib import suppress
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import msgspec

from edge_agent import forms
from edge_agent.errors import EdgeAgentError, ModelError, NoMirror
from edge_agent.fleet.bundle import Bundle, Target
from edge_agent.fleet.judge import Measured, Promise
from edge_agent.models.prepare import prepare
from edge_agent.models.store import ModelStore
from edge_agent.opening import Recogniser, Wish, choose_profile, open_recogniser, wanted_model
from edge_agent.selftest import WORDS, clip
from edge_agent.served import refuse_another, served
from edge_agent.shelf import Shelf
from edge_agent.types import DecodeOptions, PcmFloat, Value

_log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1  # prctl(2)
_RUNS = 2
"""Decodes of each recording; the faster one counts, the first also warms caches."""


class Stage(Value, frozen=True, tag="stage"):
    """Bring a signed bundle to this device and prepare it."""

    target: Target
    root_file: str
    mirrors: tuple[str, ...]
    models_dir: str
    fleet_dir: str
    serving: tuple[Target, ...] = ()
    """The bundles to serve with, this one among them."""
    model: str = ""
    """Of the configuration, as the following ones."""
    profile: str = "auto"
    language: str | tuple[str, ...] = "en"


class Rehearse(Value, frozen=True, tag="rehearse"):
    """Recognise the golden recordings as the service would."""

    models_dir: str
    fleet_dir: str
    serving: tuple[Target, ...]
    """The bundles to serve with, at most one of a kind."""
    golden_of: Target
    """Whose recordings; those of `serving` count too."""
    proves: bool = False
    """`golden_of` itself is tried: nothing may stand in for it."""
    model: str = ""
    """Of the configuration, as the following ones."""
    profile: str = "auto"
    language: str | tuple[str, ...] = "en"


class Answer(Value, frozen=True):
    """What became of a job."""

    error: str = ""
    kind: str = ""
    """Name of the error's class."""
    bundle: Bundle | None = None
    measured: Measured | None = None
    promise: Promise | None = None
    """Of the profile that served."""


def stage(job: Stage) -> Bundle:
    """Trust, fetch, adopt, make every form that serving takes; what is done already is not done again.

    Raises:
        EdgeAgentError: each step's own kind.
    """
    from edge_agent.fleet.fetch import check_disk, fetch
    from edge_agent.fleet.mirrors import mirror
    from edge_agent.fleet.trust import Trust

    shelf = Shelf(Path(job.models_dir), Path(job.fleet_dir))
    mirrors = [mirror(place) for place in job.mirrors]
    try:
        seen = shelf.fleet_dir / "seen"
        bundle = Trust(Path(job.root_file), seen, mirrors).bundle(job.target)
    except NoMirror:
        if not shelf.holds(job.target):
            raise
        bundle = shelf.bundle(job.target)  # the stick is gone, but everything is here
    if not shelf.holds(job.target):
        place = shelf.staging(job.target)
        check_disk(bundle, place)
        fetch(bundle, mirrors, place, lambda *_: None)
        shelf.adopt(bundle, place)
    if job.target.kind == "model":
        _prepare(shelf.store, job.target.store_name)
    _make_form(job, shelf)
    return bundle


def _prepare(store: ModelStore, name: str) -> None:
    if not store.has_prepared(name):
        try:
            prepare(name, store)
        except ModelError as error:
            _log.warning("%s", error)  # it is used as published


def _make_form(job: Stage, shelf: Shelf) -> None:
    """The form of the model that the profile's engine loads, whichever of them is new.

    Made here, so that the rehearsal measures serving alone (the making takes more memory than that) and the
    swap has nothing to wait for.
    """
    wish = Wish(
        models_dir=shelf.store.root, profile=job.profile, model=job.model, language=job.language, at_once=1
    )
    with suppress(EdgeAgentError):  # the rehearsal meets it again, and says so
        chosen = served(wish, job.serving, shelf.fleet_dir)
        choice = choose_profile(chosen)[1]
        forms.ready(shelf.store, wanted_model(chosen, choice), choice.profile.engine)


def rehearse(job: Rehearse) -> tuple[Measured, Promise]:
    """Load a recogniser as the service would, and measure it over the recordings.

    Raises:
        EdgeAgentError: it cannot be opened, or does not answer.
    """
    shelf = Shelf(Path(job.models_dir), Path(job.fleet_dir))
    clips = _clips(job, shelf)
    _refuse_unheard(shelf.bundle(job.golden_of), job, {language for _, _, language in clips})
    _forget_peak()
    wish = Wish(
        models_dir=shelf.store.root, profile=job.profile, model=job.model, language=job.language, at_once=1
    )
    recogniser = open_recogniser(served(wish, job.serving, shelf.fleet_dir))
    try:
        if job.proves:
            refuse_another(recogniser, job.golden_of)
        measured = _measure(recogniser, clips)
    finally:
        recogniser.engine.close()  # one in a process of its own would outlive this one
    profile = recogniser.choice.profile
    return measured, Promise(rtf_max=profile.expect.rtf_max, ram_max_mb=profile.limits.ram_max_mb)


def _measure(recogniser: Recogniser, clips: list[tuple[PcmFloat, str, str]]) -> Measured:
    foreign = {_base(language) for _, _, language in clips} - set(recogniser.engine.info.languages)
    if foreign:
        raise ModelError(
            f"{recogniser.model_name} does not know {', '.join(sorted(foreign))}",
            remedy="roll out one that does",
        )
    recogniser.engine.warm_up()
    worst = Measured(words=2.0, rtf=0.0, peak_mb=0.0)
    for sound, text, language in clips:
        options = DecodeOptions(language=language, beam=recogniser.options.beam)
        spent_s, heard = float("inf"), ""
        for _ in range(_RUNS):
            began = time.process_time()
            heard = recogniser.engine.transcribe(sound, options=options).text
            spent_s = min(spent_s, time.process_time() - began)
        words = share_of_words(text, heard)
        if words < worst.words:
            worst = msgspec.structs.replace(worst, words=words, heard=heard)
        rtf = max(worst.rtf, spent_s / (len(sound) / 16_000))
        worst = msgspec.structs.replace(worst, rtf=round(rtf, 4))
    return msgspec.structs.replace(worst, peak_mb=_peak_mb())


def _refuse_unheard(bundle: Bundle, job: Rehearse, golden: set[str]) -> None:
    """A model is tried in every language that this device listens for, or not at all.

    Raises:
        ModelError: it does not know one, or there is no recording to try it with.
    """
    wanted = _listened_for(job)
    unknown = wanted - {_base(tag) for tag in bundle.languages} if bundle.languages else set()
    if unknown:
        raise ModelError(
            f"{bundle.target} does not know {', '.join(sorted(unknown))}, which this device listens for",
            remedy="roll out one that does, or set recognition.language",
        )
    missing = wanted - {_base(tag) for tag in golden}
    if missing or not golden:
        raise ModelError(
            f"{bundle.target} has no golden recording in {', '.join(sorted(missing)) or 'any language'}",
            remedy="sign it with one",
        )


def _listened_for(job: Rehearse) -> set[str]:
    """Languages of the device; none: any."""
    tags = (job.language,) if isinstance(job.language, str) else job.language
    return {_base(tag) for tag in tags} - {"auto"}


def _base(tag: str) -> str:
    return tag.lower().partition("-")[0]


def _clips(job: Rehearse, shelf: Shelf) -> list[tuple[PcmFloat, str, str]]:
    """(sound, text, language), the same for the candidate and for what it is compared with.

    The candidate's own recordings; those of the bundles beside it and ours, in the device's languages.
    """
    wanted = _listened_for(job)
    found = _golden(job.golden_of, shelf)
    for target in job.serving:
        if target.kind != job.golden_of.kind:
            found += [one for one in _golden(target, shelf) if not wanted or _base(one[2]) in wanted]
    knows = {_base(tag) for tag in shelf.bundle(job.golden_of).languages}
    if (not wanted or "en" in wanted) and (not knows or "en" in knows):
        found.append((clip(), WORDS, "en"))
    return found


def _golden(target: Target, shelf: Shelf) -> list[tuple[PcmFloat, str, str]]:
    from edge_agent.audio.files import read_audio

    papers = shelf.papers(target)
    return [(read_audio(papers / one.file), one.text, one.language) for one in shelf.bundle(target).golden]


def share_of_words(expected: str, heard: str) -> float:
    """Share of the expected words that were heard, in order; of Chinese and its kin, of the signs."""
    wanted, found = _words(expected), _words(heard)
    blocks = SequenceMatcher(a=wanted, b=found, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks) / max(1, len(wanted))


def _words(text: str) -> list[str]:
    return re.findall(r"[⺀-鿿぀-ヿ가-힯]|[^\W⺀-鿿぀-ヿ가-힯]+", text.lower())


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_mb() -> float:
    """Of this process since `_forget_peak`."""
    match = re.search(r"VmHWM:\s*([0-9]+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    return round(int(match[1]) / 1024, 1) if match else 0.0


def main() -> int:
    """One job."""
    os.nice(10)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody waits for an orphan
    with suppress(OSError):  # when memory runs out, this process is the one to go
        Path("/proc/self/oom_score_adj").write_text("800", encoding="ascii")
    job: Any = msgspec.json.decode(sys.stdin.buffer.read(), type=Stage | Rehearse)
    try:
        if isinstance(job, Stage):
            answer = Answer(bundle=stage(job))
        else:
            measured, promise = rehearse(job)
            answer = Answer(measured=measured, promise=promise)
    except EdgeAgentError as error:
        answer = Answer(error=str(error), kind=type(error).__name__)
    sys.stdout.write("\n" + json.dumps(msgspec.to_builtins(answer), ensure_ascii=False) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
