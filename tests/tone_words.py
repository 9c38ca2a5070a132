"""Single-pass models in the manner of SenseVoice and Paraformer whose words are tones: each token has a
frequency, and the graph finds it in the real front end's features. Weights of the real ones are large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.decoding import fbank
from edge_agent.models.onnx_format import OnnxWriter, _bytes
from edge_agent.types import PcmFloat

WINDOW, SHIFT = 7, 6
LANGUAGES = {"auto": 0, "zh": 3, "en": 4, "yue": 7, "ja": 11, "ko": 12, "nospeech": 13}
SENSE = (
    "<blank>", "<unk>", "▁turn", "▁on", "▁the", "▁li", "ght", "开", "灯", "，",
    "<|zh|>", "<|en|>", "<|nospeech|>", "<|NEUTRAL|>", "<|Speech|>", "<|withitn|>",
)  # fmt: skip
PARA = ("<blank>", "<s>", "</s>", "turn", "on", "li@@", "ght", "开", "灯", "<unk>")
_BLANK_LOGIT = 12.0
"""Above the log energy of silence, below that of a tone."""


def hertz(place: int) -> float:
    """Of the token at that place of a vocabulary."""
    return 400.0 * 1.22**place


def say(*places: int | None, seconds: float = 0.3) -> PcmFloat:
    """The tones of tokens, one after another; None is silence."""
    time = np.arange(int(seconds * 16_000)) / 16_000
    tones = [np.sin(2 * np.pi * hertz(place) * time) if place is not None else 0 * time for place in places]
    return (0.2 * np.concatenate(tones)).astype(np.float32)


def _ears(tokens: tuple[str, ...], blank: int) -> NDArray[np.float32]:
    """float32[560, vocabulary]: the band of each token's tone in the frame in the middle of a stack."""
    found = np.zeros((WINDOW * fbank.BANDS, len(tokens)), dtype=np.float32)
    middle = (WINDOW // 2) * fbank.BANDS
    for place, token in enumerate(tokens):
        if place != blank and not (token.startswith("<") and token.endswith(">")):
            bands = fbank.log_bands(say(place))[10]
            found[middle + int(bands.argmax()), place] = 1.0
    return found


def sense_voice(directory: Path, **told: object) -> Path:
    """Four rows of tags, then a row for each stack of frames."""
    size = len(SENSE)
    with OnnxWriter(directory / "model.onnx") as w:
        x = w.input("x", "float32", ("N", "T", WINDOW * fbank.BANDS))
        w.input("x_length", "int32", ("N",))
        language, norm = w.input("language", "int32", ("N",)), w.input("text_norm", "int32", ("N",))
        heard = w.node("Add", w.node("MatMul", x, w.constant(_ears(SENSE, 0))), w.constant(_bias(size, 0)))
        tags = np.zeros((20, size), dtype=np.float32)
        for number, token in {
            0: "<|en|>",
            3: "<|zh|>",
            4: "<|en|>",
            1: "<|NEUTRAL|>",
            2: "<|Speech|>",
            14: "<|withitn|>",
        }.items():
            tags[number, SENSE.index(token)] = 9.0
        tags[0, SENSE.index("<|zh|>")] = 5.0
        asked = w.node("Concat", language, w.constant(np.array([1, 2], dtype=np.int32)), norm, axis=0)
        rows = w.node("Unsqueeze", w.node("Gather", w.constant(tags), asked, axis=0), w.shape(0))
        w.output("logits", w.node("Concat", rows, heard, axis=1), "float32", ("N", "R", size))
        w.save("tests")
    facts = {
        **_facts("sense_voice_ctc", size), **{f"lang_{name}": number for name, number in LANGUAGES.items()},
        "with_itn": 14, "without_itn": 15, **told,
    }  # fmt: skip
    return _finish(directory, facts, SENSE)


def paraformer(directory: Path) -> Path:
    """A token for each 0.3 s of sound, and the end of the sentence where there is none."""
    size = len(PARA)
    with OnnxWriter(directory / "model.onnx") as w:
        x = w.input("speech", "float32", ("N", "T", WINDOW * fbank.BANDS))
        w.input("speech_lengths", "int32", ("N",))
        each = w.node("Slice", x, w.shape(2), w.shape(1 << 30), w.shape(1), w.shape(5))
        heard = w.node("Add", w.node("MatMul", each, w.constant(_ears(PARA, 2))), w.constant(_bias(size, 2)))
        w.output("logits", heard, "float32", ("N", "R", size))
        w.save("tests")
    return _finish(directory, _facts("paraformer", size), PARA)


def _bias(size: int, blank: int) -> NDArray[np.float32]:
    found = np.zeros(size, dtype=np.float32)
    found[blank] = _BLANK_LOGIT
    return found


def _facts(kind: str, size: int) -> dict[str, object]:
    zeros = ",".join(["0"] * (WINDOW * fbank.BANDS))
    return {
        "model_type": kind, "lfr_window_size": WINDOW, "lfr_window_shift": SHIFT, "vocab_size": size,
        "neg_mean": zeros, "inv_stddev": zeros.replace("0", "1"),
    }  # fmt: skip


def _finish(directory: Path, facts: dict[str, object], tokens: tuple[str, ...]) -> Path:
    """Add what the graph says of itself (parts of a message may follow each other), and the vocabulary."""
    with (directory / "model.onnx").open("ab") as file:
        for key, value in facts.items():
            file.write(_bytes(14, _bytes(1, key.encode()) + _bytes(2, str(value).encode())))
    lines = [f"{token} {place}" for place, token in enumerate(tokens)]
    (directory / "tokens.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory
