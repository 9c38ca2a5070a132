"""Make the form of a model that this device loads: `NAME/prepared/`, beside the published `NAME/source/`.

What is in it:

- `model.bin`: weights as int8 with one scale per row, exactly as the library makes them at each load; the two
  convolutions and everything else as published. It loads in a fraction of the time and memory, to the same
  bits.
- `vocabulary.json`: tokens in the order of the rows.
- `tokenizer.json`: in standard ids, lost merges put back.
- `config.json`: `suppress_ids`, `suppress_ids_begin` and `lang_ids` as ROWS, as the library reads them; the
  mirror is among the suppressed.
- `prepared.json`: see `edge_agent.models.manifest.Prepared`.
- `judge/`: a model directory of its own, see `edge_agent.models.judge`; same rows, same ids.
- `manifest.json`: sizes, digests and times of all of these.

How a caller uses `prepared.json`:

- Every id handed to the library goes through `ids` (standard -> row; absent: the same number), every id that
  comes back through its inverse. Callers that pass their own `suppress_tokens` include `suppress`.
- With `eot_mirror` not null, `align(start, [text + [eot_mirror]])` gives p(end of text) as its last
  probability. The mirror is never part of a prompt for `generate`.
- `layout` "plain": a text prefix after `<|notimestamps|>` in `generate` is forced one token a step.
- `layout` "parallel-prefix": a text prefix must NOT be given in the plain way: the library would take it for
  task tokens and switch its timestamp rules on. To go on after a prefix in one pass, call `generate` with a
  batch of two, the encoder output stacked on itself:

      whole  = rows(prompt + prefix)                     # prompt ends with <|notimestamps|>
      helper = whole[:-1] + [row of <|notimestamps|>]
      generate(stack([encoded, encoded]), [helper, whole], suppress_blank=False,
               max_length=max(2 * new, len(whole) - 1 + new), ...)[1]

  The answer holds at most `new` tokens, without the prefix. The helper is there because the library asks the
  first row alone whether timestamps are wanted; its own answer is thrown away. Prompts without a prefix,
  timestamps and language detection work as in the plain layout. Prefixes in one batch must be of one length.

The published files are kept: they allow preparing again and comparing with them (`models verify`);
`models prune --sources` gives their room back.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.decoding.bpe import repaired
from edge_agent.decoding.vocabulary import Vocabulary, load_vocabulary
from edge_agent.errors import DiskFull, ModelError
from edge_agent.models import judge
from edge_agent.models.files import locked, put_in_place, sha256_of, sync_dir, sync_file
from edge_agent.models.manifest import FORMAT, PREPARED, Prepared
from edge_agent.models.rows import Layout, Rows, arrange
from edge_agent.models.seal import check, seal
from edge_agent.models.store import ModelStore
from edge_agent.models.weights import WeightsReader, WeightsWriter, is_quantised, open_weights, quantise_rows

DEFAULT_LAYOUT: Layout = "parallel-prefix"
_EMBEDDINGS = "decoder/embeddings/weight"
_CARRIED = ("preprocessor_config.json",)
"""Files copied as they are where the source has them."""


def prepare(name: str, store: ModelStore, *, layout: Layout = DEFAULT_LAYOUT) -> Path:
    """Make the prepared form anew and return its directory; it replaces an older one in one rename.

    Raises:
        ModelMissing, DigestMismatch: the published files are not here, or damaged.
        ModelError: they are of a kind that cannot be prepared, or another process is at work on them.
        DiskFull: not enough room.
    """
    with locked(store.lock_path(name), name):
        return prepare_locked(name, store, layout=layout)


def prepare_locked(name: str, store: ModelStore, *, layout: Layout = DEFAULT_LAYOUT) -> Path:
    """As `prepare`, for a caller that holds the model's lock."""
    source, target = store.published_dir(name), store.prepared_dir(name)
    digests = check(source).digests
    staging = target.with_name("prepared.partial")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        _make(name, source, digests, staging, layout)
        put_in_place(staging, target)
    except OSError as error:
        raise _disk_error(error, name, target) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{name} cannot be prepared ({error})", remedy="it is used as published; nothing else is needed"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _make(name: str, source: Path, digests: dict[str, str], staging: Path, layout: Layout) -> None:
    vocabulary = load_vocabulary(source)
    rows = arrange(vocabulary, layout)
    shape = _write_weights(source / "model.bin", staging / "model.bin", rows, vocabulary)
    _write_json(staging / "config.json", _config(_read_json(source / "config.json"), rows, shape))
    tokens = [vocabulary.tokens[token] for token in rows.named(len(vocabulary.tokens))]
    _write_json(staging / "vocabulary.json", tokens)
    if (source / "tokenizer.json").exists():
        _write_json(staging / "tokenizer.json", repaired(_read_json(source / "tokenizer.json")))
    for carried in _CARRIED:
        if (source / carried).exists():
            shutil.copyfile(source / carried, staging / carried)
    judged = _write_judge(staging)
    paths = sorted(path for path in staging.rglob("*") if path.is_file())
    files = {path.relative_to(staging).as_posix(): sha256_of(path) for path in paths}
    described = msgspec.structs.replace(_describe(name, digests, files, rows), judge=judged)
    _write_json(staging / PREPARED, msgspec.to_builtins(described, str_keys=True))
    for path in (*paths, staging / PREPARED):
        sync_file(path)
    seal(staging, name, {**files, PREPARED: sha256_of(staging / PREPARED)})


def _describe(name: str, digests: dict[str, str], files: dict[str, str], rows: Rows) -> Prepared:
    return Prepared(
        format=FORMAT,
        name=name,
        source=digests,
        files=files,
        layout=rows.layout,
        ids=rows.ids,
        eot_mirror=rows.eot_mirror,
        suppress=() if rows.eot_mirror is None else (rows.eot_mirror,),
    )


def _write_weights(source: Path, target: Path, rows: Rows, vocabulary: Vocabulary) -> tuple[int, int]:
    """Write the int8 file; returns the decoder's layers and heads."""
    size = len(vocabulary.tokens)
    order = np.array(rows.contents(size, vocabulary.special.eot))
    layers, heads = 0, 0
    with open_weights(source) as reading, target.open("wb") as writing:
        reader = WeightsReader(reading)
        writer = WeightsWriter(writing, reader.header)
        for name, published in reader.variables():
            array: NDArray[Any] = published
            if name in (_EMBEDDINGS, f"{_EMBEDDINGS}_scale"):
                if array.shape[0] != size:
                    raise ValueError(f"{array.shape[0]} rows for {size} tokens")
                array = array[order]
            match = re.match(r"decoder/layer_(\d+)/", name)
            layers = max(layers, int(match[1]) + 1) if match else layers
            heads = int(array) if name == "decoder/num_heads" else heads
            if is_quantised(name) and array.dtype in (np.float16, np.float32):
                array, scale = quantise_rows(array)
                writer.add(f"{name}_scale", scale)
            writer.add(name, array)
        writer.finish(reader.aliases())
    return layers, heads


def _write_judge(prepared: Path) -> str:
    """Make the judge from the prepared files; answers its directory, or nothing when too large."""
    directory = prepared / judge.DIRECTORY
    directory.mkdir()
    with open_weights(prepared / "model.bin") as reading, (directory / "model.bin").open("wb") as writing:
        reader = WeightsReader(reading)
        writer = WeightsWriter(writing, reader.header)
        for name, array in reader.variables():
            if judge.wanted(name):
                writer.add(name, judge.sharpened(name, array))
        writer.finish(reader.aliases())
    if (directory / "model.bin").stat().st_size > judge.MAX_BYTES:
        shutil.rmtree(directory)
        return ""
    for name in ("config.json", "vocabulary.json"):
        shutil.copyfile(prepared / name, directory / name)
    sync_dir(directory)
    return judge.DIRECTORY


def _config(published: dict[str, Any], rows: Rows, shape: tuple[int, int]) -> dict[str, Any]:
    """The configuration with ids as rows, its alignment heads checked against the model's shape."""
    pairs = published.get("alignment_heads") or []
    if not pairs or not all(layer < shape[0] and head < shape[1] for layer, head in pairs):
        raise ValueError("config.json names no alignment heads, or some this model does not have")
    config = dict(published)
    for key in ("suppress_ids", "suppress_ids_begin", "lang_ids"):
        config[key] = [rows.row(token) for token in published[key]]
    if rows.eot_mirror is not None:
        config["suppress_ids"] = sorted({*config["suppress_ids"], rows.eot_mirror})
    return config


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _disk_error(error: OSError, name: str, target: Path) -> ModelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no room left in {target.parent} to prepare {name}", remedy="free some space")
    return ModelError(
        f"{target} cannot be written ({error.strerror or error})", remedy="check its permissions"
    )
