"""What a profile is, and how one is made from TOML files that extend each other. No I/O here.

A file may extend one other profile: tables merge key by key, lists and values replace, at most
`MAX_ANCESTORS` steps. `description`, `status`, `abstract` and `extends` belong to their file alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType

from edge_agent import strict_toml
from edge_agent.errors import ConfigError
from edge_agent.profile.names import nearest
from edge_agent.types import Value

MAX_ANCESTORS = 3
OWN_KEYS = ("description", "status", "abstract", "extends")
"""Keys that are not handed down."""

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[int, Meta(ge=1)]
AtLeastZero = Annotated[float, Meta(ge=0)]


class GpuNeed(Value, frozen=True):
    """The graphics processor a profile needs; an empty vendor means none."""

    vendor: Literal["", "nvidia"] = ""
    min_compute: Annotated[str, Meta(pattern=r"^$|^[0-9]{1,2}\.[0-9]$")] = ""
    """CUDA compute capability, for example "8.7"."""
    max_compute: Annotated[str, Meta(pattern=r"^$|^[0-9]{1,2}\.[0-9]$")] = ""
    min_vram_mb: Annotated[int, Meta(ge=0)] = 0
    integrated: bool | None = None
    """True: shares the machine's memory; False: a card of its own; unset: either."""


class Match(Value, frozen=True):
    """The machines a profile is for. Empty lists and zeros do not restrict."""

    priority: int = 0
    """Of all profiles that fit, the highest is taken."""
    arch: tuple[str, ...] = ()
    cpu_flags_all: tuple[str, ...] = ()
    cpu_flags_any: tuple[str, ...] = ()
    min_usable_cpus: AtLeastZero = 0.0
    max_usable_cpus: AtLeastZero = 0.0
    min_usable_ram_mb: Annotated[int, Meta(ge=0)] = 0
    max_usable_ram_mb: Annotated[int, Meta(ge=0)] = 0
    board_any: tuple[str, ...] = ()
    """Parts of the board's name or of its device-tree strings."""
    gpu: GpuNeed = GpuNeed()


class SessionChoice(Value, frozen=True):
    """How onnxruntime opens its graphs; other engines do not look at it."""

    provider: Literal["cuda", "tensorrt"] = "cuda"
    """On a GPU; tensorrt: for the encoder, and CUDA for the rest."""
    graph_level: Literal["all", "extended", "basic", "off"] = "all"
    """What it may rewrite in a graph."""


class EngineChoice(Value, frozen=True):
    """Which recogniser runs which model, and how wide."""

    kind: str
    model: str
    multilingual_model: str
    """Taken instead when `model` knows English only and another language is wanted."""
    compute_type: str
    device: Literal["cpu", "cuda"]
    workers: Positive | Literal["auto"]
    """Decodes at once; "auto": one per usable fast core."""
    max_workers: Positive
    """Bound of "auto"."""
    threads_per_worker: Positive
    better_models: tuple[str, ...] = ()
    """Preferred to `model` where they are on this device, best first; none of them is fetched by itself."""
    session: SessionChoice = SessionChoice()


class Decode(Value, frozen=True):
    """How the decoder works."""

    beam: Annotated[int, Meta(ge=1, le=10)]
    """Hypotheses kept; 1 is greedy, and only greedy uses drafts."""
    speculation: Literal["auto", "off", "draft", "history", "terms"]
    """Where drafts come from."""
    context: Literal["auto", "full"]
    """auto: what was said, as the table of the decoder says per language; full: always 30 s."""


class Vad(Value, frozen=True):
    """When a frame is speech."""

    threshold: Share
    exit_threshold: Share
    min_speech_ms: Annotated[int, Meta(ge=0, le=2_000)]


class Endpoint(Value, frozen=True):
    """When an utterance is over."""

    mode: Literal["fixed", "command", "dictation", "auto"]
    """fixed: `silence_ms`; command, dictation: shorter, longer; auto: follows the speaker and the words."""
    silence_ms: Annotated[int, Meta(ge=100, le=5_000)]
    probe_ms: Annotated[int, Meta(ge=50, le=5_000)]
    max_utterance_s: Annotated[float, Meta(ge=2, le=29)]


class Partials(Value, frozen=True):
    """When the words of an open utterance are told, and which of them are told as stable."""

    first_ms: Annotated[int, Meta(ge=0, le=5_000)] = 400
    """From the moment speech is sure, 0.1 s after it starts, to the first."""
    rule: Literal["alignment", "agreement"] = "alignment"
    """alignment: by word times and probabilities; agreement: what two in a row share."""
    guard_s: Annotated[float, Meta(ge=0, le=2)] = 0.2
    """alignment: sound that must follow a word."""
    sure: Annotated[
        tuple[tuple[Annotated[int, Meta(ge=1, le=20)], Share], ...], Meta(min_length=1, max_length=10)
    ] = ((2, 0.8), (3, 0.7), (5, 0.6))
    """alignment: looks in a row that must have had a word, least probability of it; any step will do."""


class Limits(Value, frozen=True):
    """What the agent may use."""

    ram_max_mb: Positive
    utterance_queue_s: Annotated[float, Meta(ge=1, le=3_600)]
    vram_max_mb: Annotated[int, Meta(ge=0)] = 0
    """Memory of a GPU of its own that must be free; 0: not looked at."""


class Expect(Value, frozen=True):
    """What the profile promises on its machines; the agent reports when it is not met."""

    rtf_max: Annotated[float, Meta(gt=0)]
    """Seconds of work per second of speech."""
    p95_latency_ms: Positive
    """End of speech to final, the endpoint's silence included."""


class Profile(Value, frozen=True):
    """A whole profile, everything merged."""

    name: str
    description: str
    engine: EngineChoice
    decode: Decode
    vad: Vad
    endpoint: Endpoint
    limits: Limits
    expect: Expect
    partials: Partials = Partials()
    match: Match = Match()
    extends: tuple[str, ...] = ()
    """Ancestors, nearest first."""
    status: Literal["run on hardware", "not yet run on hardware"] = "not yet run on hardware"
    abstract: bool = False
    """Only there to be extended; never chosen."""

    def model_for(self, language: str | tuple[str, ...]) -> str:
        """The model for a configured language: BCP-47, several allowed ones, or "auto"."""
        wanted = (language,) if isinstance(language, str) else language
        english = all(tag.lower().partition("-")[0] == "en" for tag in wanted)
        if english or not self.engine.model.endswith(".en"):
            return self.engine.model
        return self.engine.multilingual_model


class Source(Value, frozen=True):
    """A profile file: where it is and what is in it."""

    path: str
    text: str


class Loaded(Value, frozen=True):
    """A profile and the file that each of its keys comes from ("engine.model" -> path)."""

    profile: Profile
    origins: dict[str, str]


def load(name: str, sources: Mapping[str, Source]) -> Loaded:
    """The profile `name`, merged with what it extends.

    Raises:
        ConfigError: unknown or circular `extends`, unknown key, wrong type, missing key; names the file.
    """
    chain = _chain(name, sources)
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for number, (source, tables) in enumerate(reversed(chain), start=1):
        own = number == len(chain)
        _merge(merged, {k: v for k, v in tables.items() if own or k not in OWN_KEYS}, origins, source.path)
    path = sources[name].path
    merged["name"] = name
    merged["extends"] = [_file_name(source.path) for source, _ in chain[1:]]
    _refuse_missing(merged, Profile, path)
    profile = strict_toml.convert(merged, Profile, path)
    _refuse_contradictions(profile, path)
    return Loaded(profile=profile, origins=origins)


def _chain(name: str, sources: Mapping[str, Source]) -> list[tuple[Source, dict[str, Any]]]:
    """The file itself, then its ancestors, each parsed and checked on its own."""
    names, chain = [name], []
    while True:
        source = sources[names[-1]]
        tables = strict_toml.parse(source.text, source.path)
        strict_toml.convert(tables, _FILE, source.path)
        chain.append((source, tables))
        parent = tables.get("extends")
        if parent is None:
            return chain
        if parent in names:
            circle = " -> ".join([*names, parent])
            raise ConfigError(
                f"{source.path}: extends runs in a circle: {circle}", remedy="remove one of these extends"
            )
        if parent not in sources:
            raise ConfigError(
                f'{source.path}: extends "{parent}", and there is no such profile',
                remedy=nearest(parent, sources),
            )
        if len(names) > MAX_ANCESTORS:
            raise ConfigError(
                f"{source.path}: extends more than {MAX_ANCESTORS} deep: {' -> '.join([*names, parent])}",
                remedy="extend an earlier profile of this chain",
            )
        names.append(parent)


def _merge(
    into: dict[str, Any], tables: dict[str, Any], origins: dict[str, str], path: str, at: str = ""
) -> None:
    for key, value in tables.items():
        place = f"{at}{key}"
        if isinstance(value, dict):
            _merge(into.setdefault(key, {}), value, origins, path, f"{place}.")
        else:
            into[key] = value
            origins[place] = path


def _refuse_missing(tables: Mapping[str, Any], kind: type[msgspec.Struct], path: str, at: str = "") -> None:
    hints = get_type_hints(kind)
    for field in msgspec.structs.fields(kind):
        inner = hints[field.name]
        if field.name in tables and _is_struct(inner):
            _refuse_missing(tables[field.name], inner, path, f"{at}{field.name}.")
        elif field.required and field.name not in tables:
            raise ConfigError(
                f"{path}: {at}{field.name} is set neither here nor in a profile this one extends",
                remedy='set it, or add extends = "base"' if at else "add it",
            )


def _refuse_contradictions(profile: Profile, path: str) -> None:
    if profile.vad.exit_threshold > profile.vad.threshold:
        raise ConfigError(f"{path}: vad.exit_threshold is above vad.threshold", remedy="lower it")
    if profile.endpoint.probe_ms > profile.endpoint.silence_ms:
        raise ConfigError(f"{path}: endpoint.probe_ms is above endpoint.silence_ms", remedy="lower it")
    if profile.engine.multilingual_model.endswith(".en"):
        raise ConfigError(
            f"{path}: engine.multilingual_model knows English only", remedy="name a model without .en"
        )


def _file_name(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".toml")


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _partial(kind: type[msgspec.Struct], *, leave_out: tuple[str, ...] = ()) -> type[msgspec.Struct]:
    """`kind` with every key optional: the form of one file, in which parents may set the rest."""
    hints = get_type_hints(kind, include_extras=True)
    fields: list[tuple[str, Any, Any]] = []
    for field in msgspec.structs.fields(kind):
        inner = hints[field.name]
        if field.name in leave_out:
            continue
        if _is_struct(inner):
            part = _partial(cast("type[msgspec.Struct]", inner))
            fields.append((field.name, part, msgspec.field(default_factory=part)))
        else:
            fields.append((field.name, inner | UnsetType, UNSET))
    return msgspec.defstruct(f"{kind.__name__}File", fields, kw_only=True, forbid_unknown_fields=True)


_FILE = msgspec.defstruct(
    "ProfileFile",
    [("extends", str | UnsetType, UNSET)],
    bases=(_partial(Profile, leave_out=("name", "extends")),),
    kw_only=True,
    forbid_unknown_fields=True,
)
"""What one file may hold."""
