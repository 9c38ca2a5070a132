"""The replay laboratory: recordings in real time through the whole agent and a real broker.

What a person feels is measured at a subscriber, against the sample clock: when first words show, how long
a word takes to be shown for good and to become stable, how often the text changes its mind, how late the
final comes.
"""

from __future__ import annotations

import resource
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from edge_agent import config as configuration
from edge_agent.app import Agent
from edge_agent.audio.recording import FileSource
from edge_agent.bench.report import nearest_rank
from edge_agent.clock import SystemClock
from edge_agent.config import Config
from edge_agent.meaning import endpoint_config, wish_of
from edge_agent.memory import rss_bytes
from edge_agent.mqtt.private_broker import PrivateBroker
from edge_agent.mqtt.subscriber import Subscriber
from edge_agent.opening import open_recogniser
from edge_agent.text.stabilise import units
from edge_agent.types import Hypothesis, Utterance, Value

_DEVICE_ID = "bench"
_GAP_S = 1.5
_DELIVERY_S = 15.0


class UtteranceFigures(Value, frozen=True):
    """Of one utterance; milliseconds unless said otherwise."""

    text: str
    first_partial_ms: float | None
    """From the start of speech; None when the final came first."""
    word_lags_ms: tuple[float, ...]
    """Of each word: from its end to the message from which on it is shown as in the final."""
    stable_lags_ms: tuple[float, ...]
    """Of each word: from its end to the message that made it stable."""
    final_ms: float
    """From the last speech sample to the final at the subscriber."""
    partials: int
    stable_retracted: int
    """Units that were stable and are not so in a later message."""
    tail_retracted: int
    """Units of tails that changed."""
    units: int
    """Of the final."""
    respelled: bool
    """The final has the last stable words with other signs or capitals."""
    same_alone: bool
    """The final equals a decode of the utterance by itself."""


class LiveFigures(Value, frozen=True):
    """A whole replay."""

    utterances: tuple[UtteranceFigures, ...]
    audio_s: float
    speech_s: float
    cpu_s: float
    """Of the agent, its subscriber included; not of the broker."""
    rss_mb: float
    silence_ms: float
    early_wasted: int
    gaps: int


class _Received(Value, frozen=True):
    at_s: float
    """Unix time."""
    body: dict[str, Any]


def replay(files: Sequence[Path], overrides: Sequence[str], models_dir: Path) -> LiveFigures:
    """Play the files, one after the other with silence between them, and measure.

    Args:
        files: recordings.
        overrides: `key=value` of the agent's configuration.
        models_dir: the model store.
    """
    clock = SystemClock()
    with tempfile.TemporaryDirectory(prefix="edge-agent-live-") as state, PrivateBroker() as broker:
        config = configuration.load(None, list(overrides))
        config = configuration.with_broker(config, broker.url, _DEVICE_ID)
        recogniser = open_recogniser(wish_of(config, models_dir))
        engine = recogniser.engine
        heard: list[tuple[Utterance, Hypothesis]] = []
        agent = Agent(
            config,
            device_id=_DEVICE_ID,
            recogniser=recogniser,
            source=FileSource(list(files), clock=clock, gap_s=_GAP_S),
            state_dir=Path(state),
            report_path=None,
            clock=clock,
            on_final=lambda utterance, hypothesis: heard.append((utterance, hypothesis)),
        )
        received, cpu_s, rss_mb = _run(agent, config)
        # Each once more by itself, without draft and partials: the same words must come out.
        alone = {u.id: engine.transcribe(u.pcm, options=recogniser.options).text for u, _ in heard}
        statistics, cut = agent.scribe.statistics(), agent.cutter.statistics()
        engine.close()
    silence_ms = endpoint_config(config, recogniser.choice.profile).silence_ms
    return LiveFigures(
        utterances=tuple(_figures(messages, alone) for messages in _by_utterance(received)),
        audio_s=cut.heard_s,
        speech_s=cut.speech_s,
        cpu_s=cpu_s,
        rss_mb=rss_mb,
        silence_ms=silence_ms,
        early_wasted=statistics.early_wasted,
        gaps=statistics.gaps,
    )


def _run(agent: Agent, config: Config) -> tuple[list[_Received], float, float]:
    """Run to the end; answers the transcripts, CPU seconds from the first to the last sample, and memory."""
    received: list[_Received] = []
    pause = threading.Event()

    def on_message(topic: str, body: Any) -> None:
        if "/up/transcript/" in topic:
            received.append(_Received(at_s=time.time(), body=body))

    with Subscriber(config.mqtt.url, f"{config.mqtt.prefix}/{_DEVICE_ID}/up/#", on_message) as subscriber:
        agent.start()
        began = _cpu_s()
        try:
            while not agent.ended:
                agent.tick()
                pause.wait(0.5)
                if agent.failure is not None:
                    raise agent.failure
            used = _cpu_s() - began
            subscriber.wait_for_seq(agent.outbox.stats().last_seq, _DELIVERY_S)
        finally:
            agent.stop()
    return received, used, rss_bytes() / 1e6


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _by_utterance(received: Sequence[_Received]) -> list[list[_Received]]:
    """Messages of each utterance that ended in a final with words, in the order of their coming."""
    groups: dict[str, list[_Received]] = {}
    for message in received:
        groups.setdefault(message.body["id"], []).append(message)
    return [
        group for group in groups.values() if group[-1].body["kind"] == "final" and group[-1].body["text"]
    ]


def _figures(messages: list[_Received], alone: dict[str, str]) -> UtteranceFigures:
    *partials, final = messages
    body = final.body
    start_s = datetime.fromisoformat(body["start"]).timestamp()
    first_word_s = body["words"][0]["start_s"] if body["words"] else 0.0
    speech_s = start_s + max(0.3, first_word_s)  # words begin at the earliest after the pre-roll
    stable, tail = _retracted(messages)
    settled = partials[-1].body["stable"] if partials else ""
    return UtteranceFigures(
        text=body["text"],
        first_partial_ms=1e3 * (partials[0].at_s - speech_s) if partials else None,
        word_lags_ms=_lags_ms(messages, start_s, _shown(messages)),
        stable_lags_ms=_lags_ms(messages, start_s, [len(units(m.body["stable"])) for m in messages]),
        final_ms=1e3 * (final.at_s - start_s) - body["duration_ms"],
        partials=len(partials),
        stable_retracted=stable,
        tail_retracted=tail,
        units=len(units(body["text"])),
        respelled=stable == 0 and not body["text"].startswith(settled),
        same_alone=" ".join(alone.get(body["id"], "").split()) == body["text"],
    )


def _shown(messages: list[_Received]) -> list[int]:
    """Of each message, how many leading units it and all that follow it show as the final does."""
    final = units(messages[-1].body["text"])
    counts, least = [], len(final)
    for message in reversed(messages):
        found = units(message.body["stable"] + message.body["tail"])
        same = next((i for i, (a, b) in enumerate(zip(found, final, strict=False)) if a != b), len(found))
        least = min(least, same)
        counts.append(least)
    return counts[::-1]


def _lags_ms(messages: list[_Received], start_s: float, counts: list[int]) -> tuple[float, ...]:
    """For each word of the final: when a message first counted it, after the word's end.

    Args:
        counts: of each message, how many leading units count.
    """
    lags = []
    seen = 0
    for word in messages[-1].body["words"]:
        seen += len(units(word["text"]))
        at_s = next(
            (m.at_s for m, count in zip(messages, counts, strict=True) if count >= seen), messages[-1].at_s
        )
        lags.append(1e3 * (at_s - start_s - word["end_s"]))
    return tuple(lags)


def _retracted(messages: list[_Received]) -> tuple[int, int]:
    """Units of `stable` and of `tail` that the following message no longer has in their place."""
    stable = tail = 0
    for before, after in pairwise(messages):
        now = units(after.body["stable"] + after.body["tail"])
        then = units(before.body["stable"] + before.body["tail"])
        settled = len(units(before.body["stable"]))
        for place, unit in enumerate(then):
            if place >= len(now) or now[place] != unit:
                if place < settled:
                    stable += 1
                else:
                    tail += 1
    return stable, tail


def summary(figures: LiveFigures) -> dict[str, float | int | None]:
    """Medians, 95th percentiles and sums; names carry the unit."""
    said = figures.utterances
    beyond = [one.final_ms - figures.silence_ms for one in said]
    first = [one.first_partial_ms for one in said if one.first_partial_ms is not None]
    lags = [lag for one in said for lag in one.word_lags_ms]
    stable_lags = [lag for one in said for lag in one.stable_lags_ms]
    count = sum(one.units for one in said)
    return {
        "utterances": len(said),
        "audio_s": round(figures.audio_s, 1),
        "speech_s": round(figures.speech_s, 1),
        "silence_ms": figures.silence_ms,
        "final_beyond_silence_p50_ms": percentile(beyond, 0.5),
        "final_beyond_silence_p95_ms": percentile(beyond, 0.95),
        "first_partial_p50_ms": percentile(first, 0.5),
        "first_partial_p95_ms": percentile(first, 0.95),
        "word_lag_p50_ms": percentile(lags, 0.5),
        "word_lag_p95_ms": percentile(lags, 0.95),
        "stable_lag_p50_ms": percentile(stable_lags, 0.5),
        "stable_lag_p95_ms": percentile(stable_lags, 0.95),
        "stable_flicker": round(sum(one.stable_retracted for one in said) / max(1, count), 4),
        "stable_respelled": round(sum(one.respelled for one in said) / max(1, len(said)), 4),
        "tail_flicker": round(sum(one.tail_retracted for one in said) / max(1, count), 4),
        "finals_as_alone": round(sum(one.same_alone for one in said) / max(1, len(said)), 4),
        "early_wasted": figures.early_wasted,
        "gaps": figures.gaps,
        "cpu_s_per_speech_s": round(figures.cpu_s / max(1e-9, figures.speech_s), 3),
        "rss_mb": round(figures.rss_mb),
    }


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest-rank percentile, rounded to a millisecond."""
    return round(nearest_rank(values, share)) if values else None
