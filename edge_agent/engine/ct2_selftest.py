"""Proof, at load, that the library treats a prepared model's rows as we count on. It does not promise it.

Each check compares what a row layout gives with what plain generation gives on the same sound. What fails is
switched off, and plain greedy decoding remains.
"""

from __future__ import annotations

import msgspec
import numpy as np

from edge_agent.decoding.features import fit, log_mel, silence_value
from edge_agent.decoding.steps import Abilities, Encoded
from edge_agent.engine.ct2_layout import Layout
from edge_agent.engine.ct2_silence import reference_sound
from edge_agent.engine.ct2_steps import Ct2Steps
from edge_agent.errors import EngineError

_FRAMES = 1000
_TOKENS = 6
_TOLERANCE = 0.02
"""Of a probability: the passes of an int8 model round differently."""


def prove(steps: Ct2Steps, layout: Layout, prompt: list[int], eot: int) -> Abilities:
    """The abilities of `steps` less those that did not prove themselves, with a note on each."""
    abilities = steps.abilities
    if not (abilities.scores_end or abilities.fast_prefix or abilities.proves):
        return abilities
    mel = log_mel(reference_sound(), abilities.mels)
    notes = list(abilities.notes)
    ends = prefix = proves = False
    try:
        encoded = steps.encode(fit(mel, _FRAMES, padding=silence_value(mel)))
        ends = abilities.scores_end and _judges_end(steps, layout, encoded, prompt, eot)
        prefix = abilities.fast_prefix and _reads_prefix(steps, encoded, prompt)
        proves = abilities.proves and _proves(steps, encoded, prompt)
    except EngineError as error:
        notes.append(error.cause)
    if abilities.scores_end and not ends:
        notes.append("the scoring pass does not judge the end of text: drafts cost more")
    if abilities.fast_prefix and not prefix:
        notes.append("a text prefix is not read in one pass: drafts cost more")
    if abilities.proves and not proves:
        notes.append("the judge and the model disagree: drafts cost more")
    return msgspec.structs.replace(
        abilities, scores_end=ends, fast_prefix=prefix, proves=proves, notes=tuple(notes)
    )


def _judges_end(steps: Ct2Steps, layout: Layout, encoded: Encoded, prompt: list[int], eot: int) -> bool:
    """The mirror is the end-of-text row, and the scoring pass weighs it against all text."""
    if layout.end_mirror is None:
        return False
    logits = steps.first_logits(encoded, prompt)
    end = layout.rows([eot])[0]
    if logits[end] != logits[layout.end_mirror]:
        return False
    weights = np.exp(logits[:end] - logits[:end].max())
    expected = float(weights[layout.end_mirror] / weights.sum())
    judged = steps.score(encoded, prompt, [], 100).end_probability
    return judged is not None and abs(judged - expected) < _TOLERANCE


def _reads_prefix(steps: Ct2Steps, encoded: Encoded, prompt: list[int]) -> bool:
    """After a prefix of plain generation's tokens come plain generation's next ones, where it was sure."""
    plain = steps.generate(encoded, prompt, max_new=_TOKENS).tokens
    if len(plain) < 2:
        return False
    chances = steps.score(encoded, prompt, plain, 100).probabilities
    place = max(range(1, len(plain)), key=lambda at: chances[at])
    return steps.generate(encoded, prompt, prefix=plain[:place], max_new=1).tokens == plain[place : place + 1]


def _proves(steps: Ct2Steps, encoded: Encoded, prompt: list[int]) -> bool:
    """The judge confirms plain generation's tokens where it was sure, and rejects a wrong one."""
    plain = steps.generate(encoded, prompt, max_new=_TOKENS).tokens
    if len(plain) < 2:
        return False
    chances = steps.score(encoded, prompt, plain, 100).probabilities
    judged = steps.prove(encoded, prompt, plain)
    if not all(margin > 0 for margin, chance in zip(judged, chances, strict=False) if chance > 0.5):
        return False
    wrong = next(token for token in plain[1:] + plain[:1] if token != plain[0])
    return steps.prove(encoded, prompt, [wrong])[0] < 0
