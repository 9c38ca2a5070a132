"""How much context to encode for how much sound. Pure; the table is data beside this file.

Whisper was trained on 30 s windows and pays for them: the encoder takes nine times longer for 30 s than for
10. It does not need the silence itself, but the decoder wants to see that the speech is over, else it may
start again from the beginning. So only the sound and a short tail are encoded, and the window is lengthened
with positions that hold what the encoder makes of silence, computed once.
"""

from __future__ import annotations

import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from edge_agent.decoding.features import FRAMES_PER_SECOND, MAX_FRAMES
from edge_agent.types import Value

TABLE = Path(__file__).with_name("context_policy.toml")
_STEP_S = 5.0
"""Windows come in these steps, so that the library meets few shapes."""


View: TypeAlias = Literal["short", "padded", "long", "full"]
"""short: sound and a short tail encoded, kept silence appended up to the window.
padded: a longer tail of zeros encoded, 10 s at least; nothing appended.
long: as short, but up to 30 s.
full: 30 s encoded, as the reference decoder does it."""


class Rule(Value, frozen=True):
    """How one language is decoded."""

    context: View = "short"
    """The first decode."""
    retries: tuple[View, ...] = ("long", "padded")
    """The next ones, each only while the result is in doubt; the likeliest result is kept."""
    brief_s: float = 1.2
    """Sounds shorter than this begin with the padded view: single words are heard better in it."""
    long_s: float = 15.0
    """Sounds longer than this get the full view at once: little is saved there, and words are lost (27 errors
    of 302 English words instead of 16, in 7 recordings of 15 to 28 s)."""
    tail_s: float = 1.0
    """Zeros encoded after the sound."""
    window_s: float = 10.0
    """Least length of what the decoder sees."""
    margin_s: float = 1.0
    """Least silence appended after the tail."""
    bucket_s: float = 0.1
    """Encoded lengths are multiples of this."""
    min_logprob: float = -0.4
    """Below this mean log-probability a decode is in doubt."""
    min_token: float = 0.0
    """A decode with a word less probable than this is in doubt; 0: not asked, it costs a scoring pass."""
    max_unheard_s: float = 0.0
    """A decode that leaves so much speech on end without a word is in doubt; asked where word times are made
    anyway; 0: never."""
    padded_tail_s: float = 2.0
    padded_s: float = 10.0
    """View "padded": so many zeros encoded after the sound, and at least so much in all."""
    growing_s: float = 6.0
    """As `padded_s`, of a sound that still grows. Tried by hand: of the first words of 60 English recordings,
    heard when 0.5 to 1.15 s of them were there, 723 were right so, 737 with 10 s, 732 with 15 s; without
    padding 665. It takes a third of the time of 15 s."""

    @property
    def scores(self) -> bool:
        """Does judging a decode take a scoring pass?"""
        return self.min_token > 0

    def views(self, seconds: float) -> tuple[View, ...]:
        """The views of a sound in the order they are tried, none twice."""
        if seconds > self.long_s:
            return ("full",)
        brief = self.context == "short" and seconds < self.brief_s
        first: View = "padded" if brief else self.context
        return (first, *(view for view in self.retries if view != first))


class Table(Value, frozen=True):
    """Rules by language; what a language does not name comes from `default`."""

    default: Rule = Rule()
    language: dict[str, Rule] = msgspec.field(default_factory=dict)

    def rule(self, language: str) -> Rule:
        """The rule of a language code."""
        return self.language.get(language, self.default)


class Window(Value, frozen=True):
    """What to encode and how long the decoder's view is."""

    frames: int
    """Features to encode."""
    positions: int = 0
    """Encoder positions after silence was appended; 0: none appended."""

    @property
    def seconds(self) -> float:
        """Length of the decoder's view."""
        return max(self.frames, 2 * self.positions) / FRAMES_PER_SECOND


FULL = Window(frames=MAX_FRAMES)


def window(view: View, frames: int, rule: Rule, mels: int, *, growing: bool = False) -> Window:
    """What to encode of `frames` of sound for a view; `growing`: of the beginning of a sound."""
    if view == "full":
        return FULL
    if view == "padded":
        least_s = min(rule.growing_s, rule.padded_s) if growing else rule.padded_s
        least = round(least_s * FRAMES_PER_SECOND)
        return Window(frames=usable(max(frames + round(rule.padded_tail_s * FRAMES_PER_SECOND), least), mels))
    step = max(2, round(rule.bucket_s * FRAMES_PER_SECOND))
    wanted = frames + round(rule.tail_s * FRAMES_PER_SECOND)
    encoded = usable(-(-wanted // step) * step, mels)
    if encoded >= MAX_FRAMES:
        return FULL
    window_s = MAX_FRAMES / FRAMES_PER_SECOND
    if view == "short":
        needed_s = max(rule.window_s, encoded / FRAMES_PER_SECOND + rule.margin_s)
        window_s = min(window_s, -(-needed_s // _STEP_S) * _STEP_S)
    return Window(frames=encoded, positions=round(window_s * FRAMES_PER_SECOND / 2))


def usable(frames: int, mels: int) -> int:
    """An even number of frames, at most 30 s, whose encoder output no library takes for features."""
    frames = min(MAX_FRAMES, frames + frames % 2)
    return frames + 2 if frames == 2 * mels else frames


@lru_cache(maxsize=1)
def shipped_table() -> Table:
    """The table chosen by measurement (tests/benchmarks/decoding/context_frontier.py)."""
    raw = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    default = raw.get("default", {})
    languages = {code: {**default, **rule} for code, rule in raw.get("language", {}).items()}
    return msgspec.convert({"default": default, "language": languages}, Table)
