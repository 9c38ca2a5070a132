"""TensorRT-LLM without TensorRT-LLM: every argument and call against the contract, the worker's ways to die,
and the engines that must not be loaded."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.engine import trtllm, trtllm_build, trtllm_client, trtllm_files
from edge_agent.engine import trtllm_protocol as protocol
from edge_agent.engine import trtllm_recipe as recipe
from edge_agent.engine.base import Engine, EngineConfig, open_engine
from edge_agent.errors import EngineError, EngineLoadFailed, OutOfMemory
from edge_agent.opening import Recogniser
from edge_agent.spare import Spares
from edge_agent.supervise import Level
from edge_agent.types import DecodeOptions, PcmFloat
from tests.unit.engine.real import model_dir
from tests.unit.test_scribe import Book, scribe, utterance
from tests.unit.test_spare import House

FAKE = Path(__file__).with_name("fake_trtllm")
CONTRACT = Path(trtllm.__file__).with_name("trtllm_contract.json")
TEXT = (220, 5211, 994, 13)


class Room:
    """A stored model, an environment with the stand-in, and engines built for it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model = root / "store/whisper-base/source"
        shutil.copytree(model_dir("whisper-base", prepared=False), self.model, ignore=_without_weights)
        (self.model / "model.bin").write_bytes(b"weights")
        self.key = recipe.Key(
            model_sha256=trtllm_files.model_facts(self.model)[2], platform="linux-x86_64", compute="9.0",
            cuda="13.0", tensorrt="10.14.1.48", tensorrt_llm="1.2.1", precision="float16",
            sizes=recipe.Sizes(batch=2),
        )  # fmt: skip

    def python(self, mode: str) -> Path:
        """A Python that finds the stand-in, which will do `mode`."""
        path = self.root / f"env-{mode}/python"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            f"#!/bin/sh\nexport FAKE_TRTLLM={mode} FAKE_TRTLLM_CONTRACT={CONTRACT} "
            f'FAKE_TRTLLM_TOKENS="{" ".join(map(str, TEXT))}" PYTHONPATH={FAKE} PYTHONDONTWRITEBYTECODE=1\n'
            f'exec {sys.executable} "$@"\n'
        )
        builder = path.with_name("trtllm-build")
        builder.write_text(
            f"#!/bin/sh\nexec {path} -c 'import fake_commands; fake_commands.build()' \"$@\"\n"
        )
        for program in (path, builder):
            program.chmod(0o755)
        return path

    def build(self, key: recipe.Key | None = None) -> Path:
        """An engine directory as a build leaves it."""
        key = key or self.key
        directory = trtllm_files.engines_dir(self.model) / key.name
        config = {
            "version": key.tensorrt_llm,
            "pretrained_config": {"n_mels": 80, "hidden_size": 512},
            "build_config": {
                "max_input_len": key.sizes.max_prompt, "max_seq_len": key.sizes.max_length,
                "max_batch_size": key.sizes.batch, "max_beam_width": key.sizes.beam,
                "plugin_config": {"remove_input_padding": True},
            },
        }  # fmt: skip
        for side in ("encoder", "decoder"):
            (directory / side).mkdir(parents=True)
            (directory / side / "config.json").write_text(json.dumps(config))
            (directory / side / "rank0.engine").write_bytes(side.encode())
        trtllm_files.seal(directory, key, _environment())
        return directory

    def config(self, **changes: Any) -> EngineConfig:
        """For the engine that `build` makes."""
        fields = {
            "kind": "tensorrt-llm", "model_dir": self.model, "model_name": "m@0", "compute_type": "float16",
            "device": "cuda", "workers": 2, **changes,
        }  # fmt: skip
        return EngineConfig(**fields)


def _without_weights(_directory: str, names: list[str]) -> list[str]:
    return [name for name in names if name == "model.bin"]


def _environment() -> protocol.Environment:
    return protocol.Environment(
        platform="linux-x86_64", gpu="NVIDIA H100 (stand-in)", compute="9.0", cuda="13.0",
        tensorrt="10.14.1.48", tensorrt_llm="1.2.1", driver="engine",
    )  # fmt: skip


@pytest.fixture
def room(tmp_path: Path) -> Room:
    """With nothing built yet."""
    return Room(tmp_path)


@pytest.fixture
def opened(room: Room, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Opens engines in a mode of the stand-in, and closes them."""
    engines = []

    def open_in(mode: str, **changes: Any) -> Any:
        monkeypatch.setenv(trtllm.PYTHON, str(room.python(mode)))
        if mode != "pytorch":
            room.build()
        engines.append(open_engine(room.config(**changes)))
        return engines[-1]

    yield open_in
    for engine in engines:
        engine.close()


def _sound(seconds: float = 0.5) -> PcmFloat:
    return np.random.default_rng(0).normal(0, 0.05, int(seconds * 16_000)).astype(np.float32)


def test_a_request_goes_through_the_executor(opened: Any) -> None:
    """Features, prompt, limits and cache settings pass the contract; tokens come back as text."""
    engine = opened("work")
    assert engine.info.kind == "tensorrt-llm/float16"
    assert not engine.info.steps
    assert any("speculation: not supported" in note for note in engine.info.notes)
    heard = engine.transcribe(_sound(), options=DecodeOptions(prompt="before", terms=("crane",)))
    assert heard.tokens == TEXT
    assert heard.text
    assert heard.avg_logprob == pytest.approx(-1.5 / 5)


def test_many_requests_are_in_flight_together(opened: Any) -> None:
    """Threads wait for their own answers."""
    engine = opened("work")
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda _: engine.transcribe(_sound(), options=DecodeOptions()).tokens, range(8))
        )
    assert found == [TEXT] * 8


def test_language_is_what_the_model_says_first(opened: Any) -> None:
    """One token after the start of transcript; a language that is not allowed gives way to the usual one."""
    engine = opened("work")
    assert engine.transcribe(_sound(), options=DecodeOptions(language="auto")).language == "zh"
    options = DecodeOptions(language="auto", allowed_languages=("de", "fr"), usual_language="fr")
    assert engine.transcribe(_sound(), options=options).language == "fr"


def test_prints_of_libraries_do_no_harm(opened: Any) -> None:
    """Standard output belongs to the replies alone, whoever writes to it."""
    assert opened("print").transcribe(_sound(), options=DecodeOptions()).tokens == TEXT


def test_pytorch_lane_takes_sound_and_a_prompt_in_words(opened: Any) -> None:
    """Where the executor is gone, the LLM interface serves, after the same contract."""
    assert opened("pytorch").transcribe(_sound(), options=DecodeOptions()).text == "8000 samples heard"


@pytest.mark.parametrize("mode", ["crash", "fail", "memory"])
def test_a_worker_that_fails_is_an_error(opened: Any, mode: str) -> None:
    """Death, refusal and lack of memory reach the caller as errors of the engine, within seconds."""
    engine = opened(mode)
    with pytest.raises(OutOfMemory if mode == "memory" else EngineError):
        engine.transcribe(_sound(), options=DecodeOptions())


def test_a_worker_that_died_fails_everybody_at_once(opened: Any) -> None:
    """Nobody waits for an answer that cannot come, then or later."""
    engine = opened("crash-second")
    assert engine.transcribe(_sound(), options=DecodeOptions()).tokens == TEXT
    for _ in range(2):
        with pytest.raises(EngineError, match=r"ended|gone"):
            engine.transcribe(_sound(), options=DecodeOptions())


@pytest.mark.parametrize("mode", ["hang", "silent"])
def test_a_worker_that_hangs_costs_the_time_out(
    opened: Any, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """A job without an answer is given up; a worker that does not even answer a ping is killed."""
    engine = opened(mode)
    monkeypatch.setattr(trtllm_client, "_END_TIMEOUT_S", 1.0)
    client = engine._client
    with pytest.raises(EngineError, match="did not answer"):
        client.recognise(_job(), timeout_s=0.5)
    assert client.ping(5.0) is (mode == "hang")


@pytest.mark.parametrize("mode", ["nonsense", "babble", "odd"])
def test_a_worker_that_answers_rubbish_is_an_error(opened: Any, mode: str) -> None:
    """Tokens that no model has are not taken for silence; nobody waits for what cannot be understood."""
    engine = opened(mode)
    began = time.monotonic()
    with pytest.raises(EngineError, match=r"no model can|nonsense|executor ended: IndexError"):
        engine.transcribe(_sound(), options=DecodeOptions())
    assert time.monotonic() - began < 20


def test_a_number_type_it_does_not_have_is_refused(room: Room) -> None:
    """Before a worker is started."""
    with pytest.raises(EngineLoadFailed, match="does not compute in bfloat16"):
        open_engine(room.config(compute_type="bfloat16"))


@pytest.mark.parametrize("mode", ["missing", "refuse"])
def test_what_cannot_be_opened_says_why(opened: Any, mode: str) -> None:
    """A library that is missing, an engine of another card: one line, and the next profile serves."""
    says = "libnvinfer" if mode == "missing" else "incompatible device"
    with pytest.raises(EngineLoadFailed, match=says) as caught:
        opened(mode)
    assert "\n" not in str(caught.value)


def test_no_environment_is_told(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy names the script that sets it up."""
    monkeypatch.setenv(trtllm.PYTHON, str(room.root / "nothing"))
    with pytest.raises(EngineLoadFailed, match=r"provisioning/trtllm\.sh"):
        open_engine(room.config())


def _job() -> protocol.Job:
    """Larger than a pipe holds."""
    return protocol.Job(
        id=0, features=b"\0" * (3000 * 80 * 2), frames=3000, mels=80, prompt=(50258,), prompt_text="",
        max_new=5, beam=1, end=50257,
    )  # fmt: skip


def test_a_worker_that_does_not_read_costs_the_time_out(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for ever in the middle of writing, nor for somebody else who does; it is killed."""
    monkeypatch.setattr(trtllm_client, "_END_TIMEOUT_S", 1.0)
    client = opened("work")._client
    os.kill(client._process.pid, signal.SIGSTOP)
    began = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(client.recognise, _job(), timeout_s=0.5) for _ in range(3)]
        assert all(isinstance(job.exception(20), EngineError) for job in jobs)
    assert time.monotonic() - began < 15
    assert client._process.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize("way", ["crash", "babble", "nonsense", "killed", "stopped"])
def test_an_utterance_whose_worker_fails_ends_in_one_final(
    opened: Any, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The scribe asks again, the next engine answers: no word is lost, none comes twice."""
    monkeypatch.setattr(trtllm_client, "_JOB_TIMEOUT_S", 2.0)
    monkeypatch.setattr(trtllm_client, "_END_TIMEOUT_S", 1.0)
    house = House()
    failing = opened("hang" if way in ("killed", "stopped") else way)
    process = failing._client._process

    def open_level(level: Level) -> Recogniser:
        recogniser = house.open(level)
        return msgspec.structs.replace(recogniser, engine=failing) if level == 0 else recogniser

    book = Book()
    worker = scribe(Spares(open_level, clock=house.clock), book)
    spoken = msgspec.structs.replace(utterance(8000), pcm=_sound())
    worker.work.final(spoken)
    if way in ("killed", "stopped"):
        _until(lambda: bool(failing._client._waiting))  # the request is with the worker
        os.kill(process.pid, signal.SIGKILL if way == "killed" else signal.SIGSTOP)
    worker.stop(30)
    assert book.entries == [("final", "level 1")]


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def _built(room: Room, monkeypatch: pytest.MonkeyPatch, mode: str, says: str = "") -> trtllm_files.Found:
    """Build with the stand-in's commands; the known recording is answered with `says`."""
    monkeypatch.setenv(trtllm.PYTHON, str(room.python(mode)))
    checkpoint = room.root / "breeze-asr-25.pt"
    checkpoint.write_bytes(b"checkpoint")

    def prove(engine: Engine) -> str:
        assert engine.transcribe(_sound(), options=DecodeOptions()).tokens == TEXT
        return says

    return trtllm_build.build(room.config(), checkpoint, FAKE, prove)


def test_a_build_is_found_by_the_engine(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert, build, seal, prove, activate: the engine finds the result, also after a second build."""
    for _ in range(2):
        found = _built(room, monkeypatch, "work")
        assert trtllm_files.find(room.model, room.key, _environment(), 80) == found
    names = [path.name for path in trtllm_files.engines_dir(room.model).iterdir()]
    assert names == [room.key.name]


@pytest.mark.parametrize(
    ("mode", "says", "told"),
    [
        ("build-fails", "", r"building the encoder failed .*Could not find any implementation"),
        ("work", "the words of the recording did not come out", "but the words"),
        ("pytorch", "", "runs no engine files"),
    ],
)
def test_a_build_that_fails_leaves_nothing(
    room: Room, monkeypatch: pytest.MonkeyPatch, mode: str, says: str, told: str
) -> None:
    """Nothing half done is ever found by the engine, and the step that failed is named."""
    with pytest.raises(EngineError, match=told):
        _built(room, monkeypatch, mode, says)
    place = trtllm_files.engines_dir(room.model)
    assert not place.exists() or list(place.iterdir()) == []


def _rebuilt(room: Room) -> trtllm_files.Found | None:
    return trtllm_build.rebuild(room.model, "m@0", lambda _engine: "")


def test_what_fits_no_more_is_built_again_as_it_was(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing where nothing was built or all fits; anew for another driver, and for a damaged file."""
    monkeypatch.setenv(trtllm.PYTHON, str(room.python("work")))
    assert _rebuilt(room) is None
    found = _built(room, monkeypatch, "work")
    assert _rebuilt(room) is None
    (found.directory / "decoder/rank0.engine").write_bytes(b"half")
    assert _rebuilt(room) == found
    older = msgspec.structs.replace(room.key, cuda="12.9")
    shutil.rmtree(found.directory)
    room.build(older)
    with pytest.raises(EngineLoadFailed, match=r"cuda is 12\.9.*timer builds it again"):
        open_engine(room.config())
    assert _rebuilt(room) == found
    engine = open_engine(room.config())
    try:
        assert engine.transcribe(_sound(), options=DecodeOptions()).tokens == TEXT
    finally:
        engine.close()


def test_a_build_that_cannot_be_repeated_says_so(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint is gone, or what was kept is damaged: one line, and what is there stays."""
    found = _built(room, monkeypatch, "work")
    (found.directory / "decoder/rank0.engine").write_bytes(b"half")
    (room.root / "breeze-asr-25.pt").unlink()
    with pytest.raises(EngineError, match=r"there is no checkpoint"):
        _rebuilt(room)
    (room.model.parent / "trtllm.json").write_text("{]")
    with pytest.raises(EngineLoadFailed, match=r"trtllm\.json cannot be used"):
        _rebuilt(room)
    assert found.directory.is_dir()


CHANGES: dict[str, Any] = {
    "model_sha256": "0" * 64, "platform": "linux-aarch64", "compute": "8.9", "cuda": "12.9",
    "tensorrt": "10.14.1.47", "tensorrt_llm": "1.2.0", "precision": "int8",
    "sizes": recipe.Sizes(batch=4),
}  # fmt: skip


@pytest.mark.parametrize("part", list(CHANGES))
def test_an_engine_for_anything_else_is_not_loaded(room: Room, part: str) -> None:
    """Each part of the key alone is reason enough, by its name and even when the directory was renamed."""
    other = msgspec.structs.replace(room.key, **{part: CHANGES[part]})
    built = room.build(other)
    assert set(recipe.Key.__struct_fields__) == set(CHANGES)
    with pytest.raises(EngineLoadFailed, match=f"{part.replace('_', ' ')} is"):
        trtllm_files.find(room.model, room.key, _environment(), 80)
    built.rename(built.with_name(room.key.name))
    with pytest.raises(EngineLoadFailed, match=f"{part.replace('_', ' ')} is"):
        trtllm_files.find(room.model, room.key, _environment(), 80)


def test_a_damaged_engine_is_not_loaded(room: Room) -> None:
    """A changed byte, a missing file, a configuration of another build."""
    directory = room.build()
    assert trtllm_files.find(room.model, room.key, _environment(), 80).directory == directory
    with pytest.raises(EngineLoadFailed, match="features is 80, not 128"):
        trtllm_files.find(room.model, room.key, _environment(), 128)
    (directory / "encoder/rank0.engine").write_bytes(b"other")
    with pytest.raises(EngineLoadFailed, match=r"rank0\.engine has changed"):
        trtllm_files.find(room.model, room.key, _environment(), 80)
    (directory / recipe.MANIFEST).write_text("{]")
    with pytest.raises(EngineLoadFailed, match="cannot be used"):
        trtllm_files.find(room.model, room.key, _environment(), 80)


@pytest.mark.parametrize("precision", ["float16", "int8", "int4"])
def test_every_argument_is_one_the_commands_know(precision: recipe.Precision) -> None:
    """And the ones upstream removed, or never had, are refused."""
    sizes = recipe.Sizes(batch=8, beam=2)
    converted = recipe.convert_arguments("/ckpt", "/out", precision)
    assert ("--use_weight_only" in converted) is (precision != "float16")
    assert recipe.encoder_arguments("/c", "/e", sizes)[-1] == "3000"
    decoder = recipe.decoder_arguments("/c", "/e", sizes)
    assert decoder[decoder.index("--max_seq_len") + 1] == "448"
    assert decoder[decoder.index("--max_beam_width") + 1] == "2"
    for flag, value in (
        ("--use_gemm_plugin", "float16"), ("--max_output_len", "100"), ("--model_type", "whisper"),
        ("--enable_xqa", "disable"), ("--gemm_plugin", "float64"), ("--kv_cache_type", "enable"),
    ):  # fmt: skip
        with pytest.raises(EngineError, match=flag):
            recipe.checked("trtllm-build", {flag: value})


def test_shares_of_the_memory_follow_from_the_shape() -> None:
    """1500 positions of sound beside 448 tokens for each hypothesis."""
    assert [recipe.cross_fraction(beam) for beam in (1, 2, 4)] == pytest.approx(
        [0.77, 0.626, 0.456], abs=1e-3
    )
    assert recipe.cache_tokens(recipe.Sizes(batch=8)) == 8 * 1948


OPEN = protocol.Open(directory="/nowhere", batch=1, beam=1, cache_tokens=1948, cross_fraction=0.7)
messages = st.one_of(
    st.builds(protocol.Ping, number=st.integers(0, 2**31)),
    st.builds(protocol.Cancel, id=st.integers(0, 2**31)),
    st.builds(
        protocol.Job, id=st.integers(0, 99), features=st.binary(max_size=50), frames=st.integers(0, 3000),
        mels=st.just(80), prompt=st.tuples(st.integers(0, 51865)), prompt_text=st.text(max_size=20),
        max_new=st.integers(1, 448), beam=st.integers(1, 5), end=st.just(50257),
    ),
)  # fmt: skip


@given(st.lists(messages, max_size=5))
@settings(max_examples=50)
def test_messages_come_through_as_they_are(sent: list[protocol.Request]) -> None:
    """Whatever their order and content."""
    stream = io.BytesIO(b"".join(map(protocol.frame, sent)))
    assert [protocol.read_request(stream) for _ in sent] == sent
    assert protocol.read_request(stream) is None


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_garbage_is_refused_and_never_raises_anything_else(data: bytes) -> None:
    """Any bytes end in a message, the end of the stream, or a protocol error."""
    stream = io.BytesIO(data)
    try:
        while protocol.read_reply(stream) is not None:
            pass
    except protocol.ProtocolError:
        assert True


@given(st.data())
@settings(max_examples=50)
def test_a_torn_message_is_refused(data: st.DataObject) -> None:
    """A worker that dies in the middle of a sentence is not believed half of it."""
    whole = protocol.frame(protocol.Done(id=7, tokens=(1, 2, 3), ended=True))
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(protocol.ProtocolError):
        protocol.read_reply(io.BytesIO(whole[:cut]))


def test_a_program_that_is_no_worker_is_refused(tmp_path: Path) -> None:
    """It is killed, and the error quotes what it printed."""
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\necho this is not a worker\nsleep 600\n")
    path.chmod(0o755)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(EngineLoadFailed, match="nonsense"):
        trtllm_client.WorkerClient(path)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


HELLO = protocol.Hello(environment=_environment())
said = st.one_of(
    st.just(HELLO), st.builds(protocol.Opened), st.builds(protocol.Pong, number=st.integers(0, 3)),
    st.builds(
        protocol.Done, id=st.integers(0, 3), tokens=st.just((1,)), ended=st.booleans()
    ),
    st.builds(protocol.Failed, cause=st.text(max_size=9), id=st.none() | st.integers(0, 3)),
).map(protocol.frame)  # fmt: skip


@given(st.lists(said | st.binary(max_size=30), max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_a_worker_says_ends_in_an_answer_or_an_error(tmp_path: Path, talk: list[bytes]) -> None:
    """Replies in any order, twice, to nobody, torn or mixed with garbage: no thread dies, nobody waits."""
    path = tmp_path / "python"
    (tmp_path / "talk").write_bytes(b"".join([protocol.frame(HELLO), *talk]))
    path.write_text(f"#!/bin/sh\ncat {tmp_path}/talk\nexec cat >/dev/null\n")
    path.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trtllm_client, "_END_TIMEOUT_S", 0.2)
        with suppress(EngineError), closing(trtllm_client.WorkerClient(path)) as client:
            client.open(OPEN, timeout_s=0.1)
            assert client.recognise(_job(), timeout_s=0.1).tokens == (1,)
    assert not any(thread.name.startswith("trtllm-") for thread in threading.enumerate())
