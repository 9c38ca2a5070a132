"""Engine calls made once and remembered: many ways to decode, each call paid for a single time.

The product's own decoder runs on `Remembered` as on any other `Steps`. What it asks for the first time is
asked of the engine and kept with its CPU time; what it asks again is answered from memory at the same price.
So a hundred policies over the same recordings cost little more than one, and the words are the engine's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.decoding.features import Mel
from edge_agent.decoding.steps import Abilities, Encoded, Generated, Scored, Steps
from edge_agent.files import write_atomically
from tests.benchmarks.decoding.common import cpu_ms, fresh


class Answer(msgspec.Struct, array_like=True):
    """What the engine said to one call, and the CPU milliseconds it took."""

    ms: float = 0.0
    generated: Generated | None = None
    scored: Scored | None = None
    text: str = ""


class Memory:
    """Answers by question, in one file.

    Args:
        path: where they are kept.
        fresh: forget what is there.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self._path = path
        self.answers: dict[str, Answer] = {}
        if path.is_file() and not fresh:
            self.answers = msgspec.msgpack.decode(path.read_bytes(), type=dict[str, Answer])

    def save(self) -> None:
        """Write the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, msgspec.msgpack.encode(self.answers))


class _Look:
    """A sound to be encoded; encoded only when the engine has to be asked about it."""

    def __init__(self, key: str, encode: Callable[[], Any]) -> None:
        self.key = key
        self._encode = encode
        self._encoded: Any = None

    @property
    def encoded(self) -> Encoded:
        if self._encoded is None:
            self._encoded = self._encode()
        return self._encoded

    def renew(self) -> None:
        """Forget what was read after it: the next call pays for everything, as in a decode of its own."""
        self._encoded = fresh(self.encoded)

    def make(self) -> Answer:
        self._encoded = self._encode()
        return Answer()


class Remembered:
    """`Steps` that ask the engine each question once.

    Args:
        steps: opens the engine when it is first needed.
        memory: what was asked before.
    """

    def __init__(self, steps: Callable[[], Steps], memory: Memory) -> None:
        self._open = steps
        self._memory = memory
        self._looks: dict[str, _Look] = {}
        self.spent_ms = 0.0
        """CPU time of the calls since it was last set to zero, as it was when they were first made."""

    @property
    def abilities(self) -> Abilities:
        return self._open().abilities

    def forget_sounds(self) -> None:
        """Drop encoder outputs; the next recording follows."""
        self._looks.clear()

    def encode(self, mel: Mel, positions: int = 0) -> Encoded:
        key = f"{hashlib.blake2b(mel.tobytes(), digest_size=12).hexdigest()} {mel.shape[1]} {positions}"
        look = self._looks.get(key)
        if look is None:
            look = self._looks[key] = _Look(key, lambda: self._open().encode(mel, positions))
        self._ask(key, look.make)
        return look

    def generate(
        self,
        encoded: Encoded,
        prompt: Sequence[int],
        *,
        prefix: Sequence[int] = (),
        beam: int = 1,
        max_new: int = 224,
        temperature: float = 0.0,
        judge_speech: bool = True,
    ) -> Generated:
        key = f"{encoded.key} {list(prompt)} {list(prefix)} {beam} {max_new} {temperature} {judge_speech}"

        def ask() -> Answer:
            encoded.renew()
            found = self._open().generate(
                encoded.encoded,
                prompt,
                prefix=prefix,
                beam=beam,
                max_new=max_new,
                temperature=temperature,
                judge_speech=judge_speech,
            )
            return Answer(generated=found)

        found = self._ask(key, ask, ready=encoded).generated
        assert found is not None
        return found

    def score(self, encoded: Encoded, prompt: Sequence[int], tokens: Sequence[int], frames: int) -> Scored:
        key = f"{encoded.key} {list(prompt)} {list(tokens)} {frames}"

        def ask() -> Answer:
            return Answer(scored=self._open().score(encoded.encoded, prompt, tokens, frames))

        found = self._ask(key, ask, ready=encoded).scored
        assert found is not None
        return found

    def prove(self, encoded: Encoded, prompt: Sequence[int], tokens: Sequence[int]) -> tuple[float, ...]:
        return self._open().prove(encoded.encoded, prompt, tokens)

    def detect_language(self, encoded: Encoded) -> tuple[tuple[str, float], ...]:
        return self._open().detect_language(encoded.encoded)

    def _ask(self, key: str, ask: Callable[[], Answer], ready: _Look | None = None) -> Answer:
        answer = self._memory.answers.get(key)
        if answer is None:
            if ready is not None:
                _ = ready.encoded  # its time is the encoder's, not this call's
            given, ms = cpu_ms(ask)
            answer = self._memory.answers[key] = msgspec.structs.replace(given, ms=ms)
        self.spent_ms += answer.ms
        return answer
