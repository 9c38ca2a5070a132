"""The frozen values that travel between rooms. A name that holds a quantity carries its unit."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
"""Rate of all audio behind the resampler."""

FRAME_SAMPLES = 512
"""Samples of one VAD frame: 32 ms at 16 kHz, the window Silero VAD was trained on."""

GapCause: TypeAlias = Literal["xrun", "unplug", "overload", "restart", "muted", "quota"]
Cut: TypeAlias = Literal["silence", "max_length", "stop", "gap"]
Ending: TypeAlias = Literal["finished", "open", "unknown"]
"""How the words so far look: like a whole sentence, like one that must go on, or neither."""
State: TypeAlias = Literal["online", "degraded", "muted", "updating", "stopped", "offline"]
Pcm16: TypeAlias = NDArray[np.int16]
"""Signed 16-bit samples, int16[frames, channels] or int16[samples]."""
PcmFloat: TypeAlias = NDArray[np.float32]
"""Samples in -1..1 at 16 kHz, float32[samples]."""


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all values: immutable, keyword-only, strict when decoded."""


class Gap(Value, frozen=True):
    """Sound that was lost, and why. Times are on the monotonic clock."""

    start_ns: int
    duration_ms: float
    cause: GapCause
    channel: int = 0
    id: str = ""
    """Of the utterance that it stands for; empty: it stands for none."""


class Wake(Value, frozen=True):
    """A wake word that was heard."""

    word: str
    """Name of its model."""
    score: float
    """0..1"""


class Utterance(Value, frozen=True):
    """One stretch of speech, cut from one channel."""

    id: str
    """UUIDv7, the idempotency key for life."""
    channel: int
    start_ns: int
    """Monotonic time of the first sample of `pcm` (pre-roll included)."""
    speech_end_ns: int
    """Monotonic time just after the last sample that held speech."""
    start_utc_ms: int
    clock_synced: bool
    pcm: Any
    """PcmFloat: pre-roll, speech and up to 250 ms after the last speech sample."""
    cut: Cut
    ended_ns: int = 0
    """Monotonic time of the sample at which the end was declared: the endpoint's silence after the speech."""
    wake: Wake | None = None
    """What it was listened to for; None: a command, or there is no gate."""

    @property
    def duration_s(self) -> float:
        """Length of `pcm` in seconds."""
        return len(self.pcm) / SAMPLE_RATE_HZ


class Word(Value, frozen=True):
    """One word with its place in the utterance."""

    text: str
    start_s: float
    end_s: float
    confidence: float
    """0..1"""


class DecodeOptions(Value, frozen=True):
    """What the caller wants from a decode."""

    language: str = "en"
    """BCP-47 primary tag, or "auto"."""
    allowed_languages: tuple[str, ...] = ()
    """With language "auto": detection chooses among these; empty means all."""
    usual_language: str = ""
    """With language "auto": what was spoken lately; only a clear utterance is taken for another one."""
    task: Literal["transcribe", "translate"] = "transcribe"
    prompt: str = ""
    terms: tuple[str, ...] = ()
    beam: int = 1
    words: bool = False
    """Word times and confidences wanted."""
    growing: bool = False
    """More sound will follow: a text that only seems unsure is not worth a second look."""


class DecodeCost(Value, frozen=True):
    """Where the time of one decode went, in milliseconds of wall time, and what speculation did."""

    features_ms: float = 0.0
    encode_ms: float = 0.0
    decode_ms: float = 0.0
    align_ms: float = 0.0
    context_s: float = 0.0
    """Seconds of audio context that were encoded last."""
    retries: int = 0
    """Decodes repeated at a longer context because a guard tripped."""
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    passes: int = 0
    """Calls into the decoder."""

    @property
    def total_ms(self) -> float:
        """Sum of the parts."""
        return self.features_ms + self.encode_ms + self.decode_ms + self.align_ms


class Hypothesis(Value, frozen=True):
    """What an engine heard in one piece of audio."""

    text: str
    tokens: tuple[int, ...] = ()
    words: tuple[Word, ...] = ()
    language: str = "en"
    language_probability: float = 1.0
    avg_logprob: float = 0.0
    """Mean log-probability per token, nats."""
    no_speech_prob: float = 0.0
    compression_ratio: float = 0.0
    rejected: str = ""
    """Why this text must not be published (a guard's name); empty: publish."""
    flags: tuple[str, ...] = ()
    cost: DecodeCost = DecodeCost()


class EngineInfo(Value, frozen=True):
    """What an engine is and can do."""

    kind: str
    """As published, for example "ctranslate2/int8"."""
    model: str
    """Name and the first 12 digits of the model file's sha256: "whisper-base@d01c3014881c"."""
    languages: tuple[str, ...] = ()
    steps: bool = False
    """True when `decoding/` can drive it step by step (speculation, variable context, alignment)."""
    max_audio_s: float = 30.0
    notes: tuple[str, ...] = ()


class Latency(Value, frozen=True):
    """Of one final, in milliseconds; `total` runs from the last speech sample to the outbox."""

    endpoint: float
    queue: float
    decode: float
    total: float


class Gpu(Value, frozen=True):
    """A graphics processor as the driver describes it."""

    name: str
    compute: tuple[int, int] | None = None
    vram_bytes: int | None = None
    integrated: bool = False
    driver: str = ""
    free_bytes: int | None = None
    """Of its own memory, when it was asked; other programs may hold the rest."""
    temperature_c: float | None = None


class Cuda(Value, frozen=True):
    """What programs on this machine can use of CUDA, found by loading it in a process of its own."""

    runtime: str = ""
    """Newest CUDA version that the driver supports, for example "12.4"; empty: unknown."""
    libraries: dict[str, str] = msgspec.field(default_factory=dict)
    """Name -> where it was loaded from ("wheel" or "system"), only those that load."""
    ctranslate2_types: tuple[str, ...] = ()
    """Number types CTranslate2 computes in on the first GPU; empty: it cannot use it."""
    ctranslate2_why: str = ""
    """Why not, in words."""
    onnxruntime_providers: tuple[str, ...] = ()
    tensorrt_llm: str = ""
    """Version in the environment set up for it; empty: there is none that can be imported."""
    tensorrt_llm_why: str = ""
    problem: str = ""
    """Why nothing could be found out."""


class CoreKind(Value, frozen=True):
    """CPU cores of one make; machines with fast and slow cores have several."""

    name: str
    """For example "Cortex-A76"."""
    count: int
    """Logical CPUs of this kind."""
    fast: bool = True
    """False for the slow cores beside fast ones."""


class Device(Value, frozen=True):
    """The facts of a machine that profiles are chosen by."""

    arch: str
    cpu_model: str
    cpu_flags: frozenset[str]
    cores: int
    """Logical CPUs of the machine."""
    usable_cpus: float
    """CPUs this process may use: affinity and cgroup quota applied."""
    ram_bytes: int
    usable_ram_bytes: int
    """Memory this process may use: cgroup limit applied."""
    board: str = ""
    """Name of the board from the device tree, for example "NVIDIA Jetson AGX Orin Developer Kit"."""
    board_compatible: tuple[str, ...] = ()
    l4t: str = ""
    """NVIDIA Linux for Tegra release, for example "36.4.3"; empty elsewhere."""
    jetpack: str = ""
    """Name of that release for people, for example "JetPack 6.2"."""
    physical_cores: int = 0
    """Cores without their hyperthreads; 0 when the machine does not tell."""
    core_kinds: tuple[CoreKind, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    cuda: Cuda | None = None
    """None: not looked for, because there is no NVIDIA GPU."""
    power_mode: str = ""
    """Number of the nvpmodel mode of a Jetson, for example "2"; the wattage behind it differs by board."""
    notes: tuple[str, ...] = ()
    """What could not be read, in words."""
