"""Chinese script: Whisper mixes Traditional and Simplified; a site wants one of them."""

from __future__ import annotations

from typing import Literal

import msgspec

from edge_agent.types import Hypothesis, Word

# OpenCC's conversions of characters and, where a character alone is ambiguous, of phrases; words stay the
# same words (no "twp", which would replace vocabulary as well).
_CONVERSIONS = {"Hant": "s2tw", "Hans": "t2s"}
_CHINESE = frozenset({"zh", "yue"})


class Script:
    """Converts hypotheses in Chinese; leaves all others alone.

    Args:
        script: "Hant" (Traditional, Taiwan's forms), "Hans" (Simplified) or "" (as the model writes it).
    """

    def __init__(self, script: Literal["", "Hant", "Hans"]) -> None:
        self._converter = None
        if script:
            import opencc

            self._converter = opencc.OpenCC(_CONVERSIONS[script])

    def __call__(self, hypothesis: Hypothesis) -> Hypothesis:
        """The hypothesis with its text and words in the wanted script; tokens stay those of the model."""
        if self._converter is None or hypothesis.language.partition("-")[0] not in _CHINESE:
            return hypothesis
        text = self._converter.convert(hypothesis.text)
        return msgspec.structs.replace(hypothesis, text=text, words=self._words(hypothesis, text))

    def _words(self, hypothesis: Hypothesis, text: str) -> tuple[Word, ...]:
        """Words cut from the converted text, where context decided; alone where the lengths differ."""
        assert self._converter is not None
        converted, place = [], 0
        for word in hypothesis.words:
            found = hypothesis.text.find(word.text, place) if len(text) == len(hypothesis.text) else -1
            if found < 0:
                converted.append(msgspec.structs.replace(word, text=self._converter.convert(word.text)))
                continue
            place = found + len(word.text)
            converted.append(msgspec.structs.replace(word, text=text[found:place]))
        return tuple(converted)
