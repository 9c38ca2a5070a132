"""Figures of the documents: cells of tests/benchmarks/RESULTS.md, with the command of their section."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from tests.benchmarks.results import RESULTS
from tests.docs.pages import Language


@dataclass(frozen=True)
class Cell:
    """One cell: its section, the first cell of its row (or the first two, joined by " / "), its column.

    Shown with `digits` after the point, divided by `per`.
    """

    section: str
    row: str
    column: str
    digits: int | None = None
    per: float = 1
    under: str = ""
    """A heading within the section that the table stands under; it begins with this."""

    def text(self) -> str:
        """The cell as it stands in RESULTS.md."""
        for head, rows in _tables(self.section, self.under):
            if self.column not in head:
                continue
            at = head.index(self.column)
            for row in rows:
                if self.row in (row[0], " / ".join(row[:2]), " / ".join(row[:3])):
                    return row[at]
        raise LookupError(f"RESULTS.md has no such cell: {self}")

    def shown(self) -> str:
        """The number of it, rounded as wanted."""
        number = re.match(r"[-+]?[\d.]+", self.text())
        if number is None:
            raise LookupError(f"{self} holds no number: {self.text()!r}")
        if self.digits is None and self.per == 1:
            return number.group()
        return f"{float(number.group()) / self.per:.{self.digits or 0}f}"


@dataclass(frozen=True)
class Figure:
    """A line of a table of figures; {0}, {1} ... in its texts are its cells."""

    en: str
    zh: str
    shown_en: str
    shown_zh: str
    cells: tuple[Cell, ...]
    writer: str = ""
    """The command of a section that does not name it itself."""

    def label(self, language: Language) -> str:
        """What was measured."""
        wanted = self.en if language == "en" else self.zh
        return wanted.format(*(cell.shown() for cell in self.cells))

    def value(self, language: Language) -> str:
        """What came of it."""
        wanted = self.shown_en if language == "en" else self.shown_zh
        return wanted.format(*(cell.shown() for cell in self.cells))

    def command(self) -> str:
        """The command that wrote the section, as it stands there."""
        (section,) = {cell.section for cell in self.cells}
        if self.writer:
            return self.writer
        found = re.search(r"`(?:\.venv/bin/)?(python (?:-m )?tests[./]benchmarks[^`]*)`", _section(section))
        if found is None:
            raise LookupError(f"the section {section} of RESULTS.md names no command")
        return found.group(1).removesuffix(" --write")


@cache
def _section(name: str) -> str:
    text = RESULTS.read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name}: begin -->\n(.*?)<!-- {name}: end -->", text, re.DOTALL)
    if found is None:
        raise LookupError(f"RESULTS.md has no section {name}")
    return found.group(1)


@cache
def _tables(section: str, under: str) -> list[tuple[list[str], list[list[str]]]]:
    tables: list[tuple[list[str], list[list[str]]]] = []
    heading, inside = "", False
    for line in _section(section).splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            inside = False
            continue
        row = [cell.strip().strip("*") for cell in line.strip("|").split("|")]
        if not inside:
            inside = True
            tables.append((row if heading.startswith(under) else [], []))
        elif not set("".join(row)) <= set("-: "):
            tables[-1][1].append(row)
    return tables


def _live(setting: str, column: str, digits: int | None = None, per: float = 1) -> Cell:
    return Cell("live", setting, column, digits, per)


_USUAL, _SHORT, _NONE = "silence 600 ms", "silence 300 ms", "silence 600 ms, no partials"
_BEYOND, _P95, _CPU = "final beyond silence p50 ms", "p95 ms", "CPU s per s of speech"

FIGURES = (
    Figure(
        "final after the silence that ends an utterance",
        "句尾靜音結束後，定稿多久送出",
        "{0} ms, 95 of 100 within {1}",
        "{0} 毫秒，95% 在 {1} 毫秒內",
        (_live(_USUAL, _BEYOND), _live(_USUAL, _P95)),
    ),
    Figure(
        "first words after speech begins",
        "開口後多久出現第一批字",
        "{0} s",
        "{0} 秒",
        (_live(_USUAL, "first partial p50 ms", 1, 1000),),
    ),
    Figure(
        "a word is stable after it was spoken, median",
        "說出後多久確定不再更動（中位數）",
        "{0} s",
        "{0} 秒",
        (_live(_USUAL, "word lag (stable) p50 ms", 1, 1000),),
    ),
    Figure(
        "CPU time per second of speech",
        "每秒語音所用的 CPU 時間",
        "{0} s; without partials {1}",
        "{0} 秒；關閉暫稿時 {1} 秒",
        (_live(_USUAL, _CPU), _live(_NONE, _CPU, 2)),
    ),
    Figure(
        "one English utterance, against faster-whisper",
        "單句英語的辨識時間，與 faster-whisper 相比",
        "{0} times less ({1} ms, {2} ms)",
        "快 {0} 倍（{1} 毫秒對 {2} 毫秒）",
        (
            Cell("against-peer", "en", "times less", 1),
            Cell("against-peer", "en", "ours ms"),
            Cell("against-peer", "en", "peer ms"),
        ),
    ),
    Figure(
        "wrong words, {0} English recordings",
        "英語字錯率，{0} 段錄音",
        "{1} %; faster-whisper {2}",
        "{1}%；faster-whisper {2}%",
        (
            Cell("against-peer", "en", "clips"),
            Cell("against-peer", "en", "ours %"),
            Cell("against-peer", "en", "peer %"),
        ),
    ),
    Figure(
        "wrong characters, {0} Mandarin recordings",
        "華語字元錯誤率，{0} 段錄音",
        "{1} %; faster-whisper {2}",
        "{1}%；faster-whisper {2}%",
        (
            Cell("against-peer", "zh", "clips"),
            Cell("against-peer", "zh", "ours %"),
            Cell("against-peer", "zh", "peer %"),
        ),
    ),
    Figure(
        "streams of sentences with rests that one box keeps up with",
        "單機可同時跟上的串流數（句與句之間有停頓）",
        "{0}",
        "{0}",
        (Cell("streams", "whisper-base / on", "streams held"),),
    ),
    Figure(
        "start to `online`; memory when nobody speaks",
        "啟動到 `online`；無人說話時的記憶體",
        "{0} s; {1} MB",
        "{0} 秒；{1} MB",
        (
            Cell("footprint", "start to `online` at a subscriber, median of 7", "figure"),
            Cell("footprint", "memory (RSS), nobody speaks", "figure"),
        ),
    ),
)

_ORT = "decoding-context-onnxruntime"


def _beam(language: str, beam: int, column: str) -> Cell:
    heading = {"en": "en, ", "zh": "zh, "}[language]
    return Cell(_ORT, f"as shipped / {beam}", column, under=heading)


TUNING = (
    Figure(
        "`endpoint.silence_ms` 600, then 300: final after that silence, median and 95 of 100",
        "`endpoint.silence_ms` 為 600 與 300 時：靜音之後定稿的中位數與 95 百分位",
        "{0} and {1} ms; {2} and {3} ms",
        "{0} 與 {1} 毫秒；{2} 與 {3} 毫秒",
        (_live(_USUAL, _BEYOND), _live(_USUAL, _P95), _live(_SHORT, _BEYOND), _live(_SHORT, _P95)),
    ),
    Figure(
        "the same: finals made of the same speech",
        "同上：同一段語音切成幾句定稿",
        "{0}; {1}",
        "{0}；{1}",
        (_live(_USUAL, "finals"), _live(_SHORT, "finals")),
    ),
    Figure(
        "`recognition.partials` true, then false: CPU seconds per second of speech",
        "`recognition.partials` 開與關：每秒語音的 CPU 秒數",
        "{0}; {1}",
        "{0}；{1}",
        (_live(_USUAL, _CPU), _live(_NONE, _CPU)),
    ),
    Figure(
        "`decode.beam` 1, then 5, English: wrong words, CPU per utterance",
        "`decode.beam` 為 1 與 5，英語：字錯率與每句 CPU",
        "{0} %, {1} ms; {2} %, {3} ms",
        "{0}%、{1} 毫秒；{2}%、{3} 毫秒",
        (
            _beam("en", 1, "rate %"),
            _beam("en", 1, "mean ms"),
            _beam("en", 5, "rate %"),
            _beam("en", 5, "mean ms"),
        ),
    ),
    Figure(
        "the same, Mandarin: wrong characters, CPU per utterance",
        "同上，華語：字元錯誤率與每句 CPU",
        "{0} %, {1} ms; {2} %, {3} ms",
        "{0}%、{1} 毫秒；{2}%、{3} 毫秒",
        (
            _beam("zh", 1, "rate %"),
            _beam("zh", 1, "mean ms"),
            _beam("zh", 5, "rate %"),
            _beam("zh", 5, "mean ms"),
        ),
    ),
    Figure(
        "words stable after two looks, as shipped; after one look: contradicted by the final",
        "看兩次才算確定（出廠設定）與只看一次：被定稿推翻的比例",
        "{0}; {1}",
        "{0}；{1}",
        (
            Cell("stable-words", "en, as shipped", "share"),
            Cell("stable-words", "en, one look of 0.5", "share"),
        ),
    ),
    Figure(
        "`recognition.terms`: of {0} domain words, right without and with; written where none was said",
        "`recognition.terms`：說出 {0} 個專有名詞，未設定與設定後各對幾個；無中生有的次數",
        "{1} and {2}; {3}",
        "{1} 與 {2}；{3}",
        (
            Cell("decoding-terms", "speech with a term", "terms said"),
            Cell("decoding-terms", "speech with a term", "plain right"),
            Cell("decoding-terms", "speech with a term", "biased right"),
            Cell("decoding-terms", "speech without terms", "leaks"),
        ),
        "python -m tests.benchmarks.decoding.term_leaks",
    ),
    Figure(
        "speech heard: loud voice in a quiet room; voice 24 dB lower in a room at -45 dBFS",
        "聽到的語音：安靜房間裡的大聲說話；-45 dBFS 的房間裡小 24 dB 的聲音",
        "{0} %; {1} %",
        "{0}%；{1}%",
        (
            Cell("vad_recall", "voices 0/-12 dB, room -65", "heard %"),
            Cell("vad_recall", "voices 0/-24 dB, room -45", "heard %"),
        ),
    ),
    Figure(
        "wrong words: read close to the microphone; from across the room",
        "字錯率：近距離朗讀；隔著房間說話",
        "{0} %; {1} %",
        "{0}%；{1}%",
        (Cell("demo-wer", "en_read_kathleen", "ours"), Cell("demo-wer", "en_farfield", "ours")),
    ),
    Figure(
        "nobody speaks; one microphone; four: CPU of one core, memory",
        "無人說話；一支麥克風；四支：單核 CPU 與記憶體",
        "{0} %, {1} MB; {2} %, {3} MB; {4} %, {5} MB",
        "{0}%、{1} MB；{2}%、{3} MB；{4}%、{5} MB",
        tuple(
            Cell("upkeep", row, column)
            for row in ("nobody speaks", "one microphone", "four microphones")
            for column in ("CPU, of one core", "memory (RSS)")
        ),
    ),
    Figure(
        "streams that it keeps up with: whisper-base, whisper-tiny.en",
        "跟得上的串流數：whisper-base、whisper-tiny.en",
        "{0}; {1}",
        "{0}；{1}",
        (
            Cell("streams", "whisper-base / on", "streams held"),
            Cell("streams", "whisper-tiny.en / on", "streams held"),
        ),
    ),
)
