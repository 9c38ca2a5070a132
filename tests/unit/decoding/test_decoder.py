"""The order of a decode: short context first, more of it when in doubt, and what is published in the end."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from edge_agent.decoding.context import FULL, Rule, Table
from edge_agent.decoding.decoder import Decoder, Settings
from edge_agent.decoding.drafts import Guess
from edge_agent.decoding.features import Mel
from edge_agent.decoding.steps import Abilities
from edge_agent.decoding.tokens import Tokenizer
from edge_agent.engine.scripted_steps import ScriptedSteps, Sound
from edge_agent.types import DecodeOptions, Hypothesis, PcmFloat
from tests.unit.engine.real import model_dir

SECONDS = 3
PCM: PcmFloat = np.random.default_rng(2).normal(0, 0.05, SECONDS * 16_000).astype(np.float32)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The real vocabulary."""
    return Tokenizer(model_dir("whisper-base"))


def _decoder(
    tokenizer: Tokenizer,
    hear: Callable[[Mel, int], Sound],
    rule: Rule | None = None,
    *,
    proves: bool = False,
    **settings: object,
) -> tuple[Decoder, ScriptedSteps]:
    abilities = Abilities(
        mels=80,
        multilingual=True,
        languages=("en", "de", "zh"),
        scores_end=True,
        fast_prefix=True,
        proves=proves,
    )
    steps = ScriptedSteps(abilities, hear)
    table = Table(default=rule or Rule())
    return Decoder(steps, tokenizer, settings=Settings(**settings), table=table), steps  # type: ignore[arg-type] - by test


def _say(tokenizer: Tokenizer, text: str, **fields: object) -> Sound:
    return Sound(tokens=tuple(tokenizer.encode(text)), **fields)  # type: ignore[arg-type] - by test


def test_a_clear_utterance_is_one_encode_and_one_decode(tokenizer: Tokenizer) -> None:
    """No retry, a short window, costs that say so."""
    decoder, steps = _decoder(tokenizer, lambda mel, positions: _say(tokenizer, " turn on the crane"))
    heard = decoder.transcribe(PCM, options=DecodeOptions())
    assert heard.text == "turn on the crane"
    assert steps.calls == ["encode", "generate"]
    assert (heard.cost.context_s, heard.cost.retries, heard.rejected) == (10.0, 0, "")


def test_words_cost_one_more_pass(tokenizer: Tokenizer) -> None:
    """Times and confidences come from one scoring pass."""
    decoder, steps = _decoder(tokenizer, lambda mel, positions: _say(tokenizer, " turn on"))
    heard = decoder.transcribe(PCM, options=DecodeOptions(words=True))
    assert [word.text for word in heard.words] == ["turn", "on"]
    assert steps.calls[-1] == "score"


def test_digital_silence_around_the_sound_is_not_decoded_and_words_keep_their_times(
    tokenizer: Tokenizer,
) -> None:
    """The window is that of the sound alone; seconds count from the start of what was given."""
    decoder, _ = _decoder(tokenizer, lambda mel, positions: _say(tokenizer, " turn on"))
    silence = np.zeros(16_000, np.float32)
    alone = decoder.transcribe(PCM, options=DecodeOptions(words=True))
    framed = decoder.transcribe(np.concatenate([silence, PCM, silence]), options=DecodeOptions(words=True))
    assert framed.cost.context_s == alone.cost.context_s
    for early, late in zip(alone.words, framed.words, strict=True):
        assert late.text == early.text
        assert late.start_s - early.start_s == pytest.approx(0.99, abs=0.02)


def test_a_loop_in_the_short_window_is_heard_again(tokenizer: Tokenizer) -> None:
    """The longer view finds the end; nobody sees the loop."""

    def hear(mel: Mel, positions: int) -> Sound:
        return _say(tokenizer, " come here now please", loops=positions == 500)

    decoder, _ = _decoder(tokenizer, hear)
    heard = decoder.transcribe(PCM, options=DecodeOptions())
    assert heard.text == "come here now please"
    assert (heard.cost.retries, heard.cost.context_s) == (1, 30.0)


def test_a_loop_everywhere_is_rejected(tokenizer: Tokenizer) -> None:
    """After the full window and a higher temperature the text is withheld, with the reason."""
    decoder, _ = _decoder(
        tokenizer, lambda mel, positions: _say(tokenizer, " come here now please", loops=True)
    )
    heard = decoder.transcribe(PCM, options=DecodeOptions(words=True))
    assert heard.rejected == "compression"
    assert heard.words == ()
    assert heard.cost.context_s == 30.0


def test_doubtful_text_is_heard_in_three_ways_at_most(tokenizer: Tokenizer) -> None:
    """Low probability is no proof of error: two other views, then the likeliest is published."""
    decoder, _ = _decoder(tokenizer, lambda mel, positions: _say(tokenizer, " crane", flat=True))
    heard = decoder.transcribe(PCM, options=DecodeOptions())
    assert (heard.text, heard.rejected, heard.cost.retries) == ("crane", "", 2)


def test_the_full_context_is_what_the_reference_sees(tokenizer: Tokenizer) -> None:
    """Setting or rule "full": 3000 frames, no silence appended."""
    seen: list[tuple[int, int]] = []

    def hear(mel: Mel, positions: int) -> Sound:
        seen.append((mel.shape[1], positions))
        return _say(tokenizer, " yes")

    _decoder(tokenizer, hear, context="full")[0].transcribe(PCM, options=DecodeOptions())
    _decoder(tokenizer, hear, Rule(context="full", retries=()))[0].transcribe(PCM, options=DecodeOptions())
    assert seen == [(FULL.frames, 0)] * 2


def test_a_right_draft_saves_the_decode(tokenizer: Tokenizer) -> None:
    """The last hypothesis of the same utterance is checked in one pass, which also gives the words."""
    decoder, steps = _decoder(tokenizer, lambda mel, positions: _say(tokenizer, " turn on the crane"))
    before = decoder.transcribe(PCM, options=DecodeOptions())
    steps.calls.clear()
    heard = decoder.transcribe(PCM, options=DecodeOptions(words=True), draft=before)
    assert steps.calls == ["encode", "score"]
    assert heard.text == before.text
    assert heard.cost.accepted_tokens == heard.cost.drafted_tokens == len(before.tokens)


def test_a_right_draft_is_proven_without_weighing_it(tokenizer: Tokenizer) -> None:
    """Where nobody wants word times it keeps the likelihood it had; one that was hardly likely is weighed."""
    decoder, steps = _decoder(tokenizer, lambda mel, positions: _say(tokenizer, " turn on"), proves=True)
    before = decoder.transcribe(PCM, options=DecodeOptions())
    for avg_logprob, calls in ((-0.05, ["encode", "prove"]), (-0.35, ["encode", "score"])):
        steps.calls.clear()
        draft = msgspec.structs.replace(before, avg_logprob=avg_logprob)
        heard = decoder.transcribe(PCM, options=DecodeOptions(), draft=draft)
        assert (heard.text, steps.calls) == ("turn on", calls)
        assert (heard.avg_logprob == avg_logprob) == ("prove" in calls)


def test_a_rejected_text_is_never_a_draft(tokenizer: Tokenizer) -> None:
    """Made-up words are not fed to the next decode."""
    decoder, steps = _decoder(tokenizer, lambda mel, positions: _say(tokenizer, " yes"))
    rejected = Hypothesis(text="you", tokens=(291,), rejected="no_speech")
    decoder.transcribe(PCM, options=DecodeOptions(), draft=rejected)
    assert "score" not in steps.calls


@pytest.mark.parametrize("allowed", [(), ("de", "zh")])
def test_the_language_is_detected_among_the_allowed(tokenizer: Tokenizer, allowed: tuple[str, ...]) -> None:
    """With a list, the best of the list."""
    decoder, _ = _decoder(tokenizer, lambda mel, positions: _say(tokenizer, " ja", language="en"))
    heard = decoder.transcribe(PCM, options=DecodeOptions(language="auto", allowed_languages=allowed))
    assert heard.language == ("de" if allowed else "en")


def test_digital_silence_is_not_decoded(tokenizer: Tokenizer) -> None:
    """No engine call, no words."""
    decoder, steps = _decoder(tokenizer, lambda mel, positions: _say(tokenizer, " you"))
    heard = decoder.transcribe(np.zeros(16_000, dtype=np.float32), options=DecodeOptions())
    assert (heard.text, heard.flags, steps.calls) == ("", ("quiet",), [])


def test_a_term_the_sound_does_not_bear_out_is_dropped(tokenizer: Tokenizer) -> None:
    """The prompt put it there: what plain decoding hears is published."""
    said, leaked = tokenizer.encode(" turn on the train"), tokenizer.encode(" turn on the crane")
    sound = Sound(tokens=tuple(said), biased=tuple(leaked))
    decoder, _ = _decoder(tokenizer, lambda mel, positions: sound)
    heard = decoder.transcribe(PCM, options=DecodeOptions(terms=("crane",)))
    assert (heard.text, heard.flags) == ("turn on the crane", ("terms",))  # one token, nearly as likely
    far = Sound(
        tokens=tuple(said), biased=tuple(tokenizer.encode(" sandalwood crane yes no")), weak=frozenset()
    )
    decoder, _ = _decoder(tokenizer, lambda mel, positions: far)
    heard = decoder.transcribe(PCM, options=DecodeOptions(terms=("crane",)))
    assert (heard.text, heard.flags) == ("turn on the train", ("term_leak",))


def test_a_term_plain_decoding_hears_too_costs_no_more_questions(tokenizer: Tokenizer) -> None:
    """Both agree: no scoring."""
    decoder, steps = _decoder(tokenizer, lambda mel, positions: _say(tokenizer, " the crane"))
    heard = decoder.transcribe(PCM, options=DecodeOptions(terms=("crane",)))
    assert (heard.text, heard.flags) == ("the crane", ())
    assert steps.calls == ["encode", "generate", "generate"]


def test_a_sentence_of_this_site_is_drafted_from_the_map(tokenizer: Tokenizer) -> None:
    """The second time, the first tokens are enough."""
    text = " please lower the north crane to the second level now"
    decoder, steps = _decoder(tokenizer, lambda mel, positions: _say(tokenizer, text), speculation="terms")
    decoder.transcribe(PCM, options=DecodeOptions())
    steps.calls.clear()
    heard = decoder.transcribe(PCM, options=DecodeOptions())
    assert heard.text == text.strip()
    assert steps.calls == ["encode", "generate", "score"]
    assert heard.cost.accepted_tokens > 0
    assert decoder.draft_statistics[0].kind == "terms"


class _Guess:
    """A draft model that says what it is told."""

    def __init__(self, text: str, no_speech_prob: float = 0.0) -> None:
        self.text = text
        self.no_speech_prob = no_speech_prob

    def guess(self, mel: Mel, seconds: float, language: str) -> Guess:
        return Guess(text=self.text, no_speech_prob=self.no_speech_prob, made_ms=1.0)


@pytest.mark.parametrize("guess", ["turn on the crane", "turn of the crane", "quite another sentence", ""])
def test_a_smaller_models_guess_never_changes_the_words(tokenizer: Tokenizer, guess: str) -> None:
    """Right, nearly right, wrong or none."""
    sound = _say(tokenizer, " turn on the crane")
    _, steps = _decoder(tokenizer, lambda mel, positions: sound)
    decoder = Decoder(steps, tokenizer, draft_model=_Guess(guess))
    assert decoder.transcribe(PCM, options=DecodeOptions()).text == "turn on the crane"


def test_what_a_smaller_model_finds_silent_is_judged(tokenizer: Tokenizer) -> None:
    """Its no-speech probability stands for the one that a draft saves asking for."""
    _, steps = _decoder(tokenizer, lambda mel, positions: _say(tokenizer, " Thank you."))
    for no_speech_prob, rejected in ((0.01, ""), (0.5, "stock_phrase")):
        guess = _Guess("Thank you.", no_speech_prob)
        decoder = Decoder(steps, tokenizer, table=Table(default=Rule(retries=())), draft_model=guess)
        assert decoder.transcribe(PCM, options=DecodeOptions()).rejected == rejected


def test_a_single_word_begins_with_the_padded_view(tokenizer: Tokenizer) -> None:
    """Ten seconds are encoded for half a second of sound; a command is encoded as it is."""
    seen: list[tuple[int, int]] = []

    def hear(mel: Mel, positions: int) -> Sound:
        seen.append((mel.shape[1], positions))
        return _say(tokenizer, " yes")

    decoder, _ = _decoder(tokenizer, hear)
    decoder.transcribe(PCM[:8000], options=DecodeOptions())
    decoder.transcribe(PCM, options=DecodeOptions())
    assert seen == [(1000, 0), (400, 500)]


def test_a_growing_utterance_asks_for_no_second_opinion(tokenizer: Tokenizer) -> None:
    """An unsure text costs one more look only when it is final; a broken one at any time."""

    def unsure(mel: Mel, positions: int) -> Sound:
        return _say(tokenizer, " turn on the", flat=True)

    decoder, _ = _decoder(tokenizer, unsure)
    partial, final = (
        decoder.transcribe(PCM, options=DecodeOptions(growing=growing)) for growing in (True, False)
    )
    assert (partial.cost.retries, partial.text) == (0, "turn on the")
    assert final.cost.retries > 0

    def loops(mel: Mel, positions: int) -> Sound:
        return _say(tokenizer, " come here now please", loops=positions == 500)

    decoder, _ = _decoder(tokenizer, loops)
    assert decoder.transcribe(PCM, options=DecodeOptions(growing=True)).cost.retries == 1


def test_speech_without_words_is_heard_again(tokenizer: Tokenizer) -> None:
    """A likely text that leaves seconds of speech without a word gives way to one that accounts for them."""
    whole = " turn on the crane and lower the load to the ground now please"

    def hear(mel: Mel, positions: int) -> Sound:
        return _say(tokenizer, " turn" if positions == 500 else whole)

    decoder, _ = _decoder(tokenizer, hear, Rule(max_unheard_s=0.6))
    assert decoder.transcribe(PCM, options=DecodeOptions(words=True)).text == whole.strip()
    assert decoder.transcribe(PCM, options=DecodeOptions(words=True, growing=True)).text == "turn"
    # Without words there is no scoring pass to see it in; asking for one would cost every utterance.
    assert decoder.transcribe(PCM, options=DecodeOptions()).text == "turn"


@pytest.mark.parametrize(("then", "now", "rejected"), [(0.9, 0.1, ""), (0.1, 0.9, "no_speech")])
def test_whether_anybody_spoke_is_judged_on_the_whole_sound(
    tokenizer: Tokenizer, then: float, now: float, rejected: str
) -> None:
    """A partial of the first half second knows little; an unsure text asks again before it is published."""
    sound = _say(tokenizer, " turn on the crane", flat=True, no_speech_prob=now)
    decoder, _ = _decoder(tokenizer, lambda mel, positions: sound)
    partial = Hypothesis(text="turn on the crane", tokens=sound.tokens, no_speech_prob=then, avg_logprob=-0.5)
    assert decoder.transcribe(PCM, options=DecodeOptions(), draft=partial).rejected == rejected
