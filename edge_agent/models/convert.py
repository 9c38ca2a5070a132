"""Other forms of a model: a Hugging Face checkpoint into the store, and a stored model as ONNX graphs.

The ONNX form lives at `NAME/onnx-PRECISION/`: three graphs with their weights, `onnx.json`, the vocabulary
and the tokenizer, sealed like the other forms. It is made from the published files, so tokens keep their
standard ids.
"""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

from edge_agent.decoding.bpe import repaired
from edge_agent.errors import DiskFull, ModelError
from edge_agent.models import hugging_face, onnx_whisper
from edge_agent.models.files import locked, put_in_place, sha256_of, sync_file
from edge_agent.models.mapped import map_ct2
from edge_agent.models.onnx_whisper import PRECISIONS, Precision, Weights
from edge_agent.models.seal import check, read_manifest, seal
from edge_agent.models.store import ModelStore

FACTS = "onnx.json"
FORMAT = 2
"""Raised when forms made by an older programme must be made again."""
_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")


def import_checkpoint(name: str, source: Path, store: ModelStore) -> Path:
    """Convert a Hugging Face checkpoint and take it into the store under `name`.

    Raises:
        ModelError: it is not one, or the name cannot be used.
        DiskFull: not enough room.
    """
    staging = store.source_dir(name).with_name("converted.partial")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        hugging_face.convert(source, staging)
        return store.take_made(name, staging)
    except OSError as error:
        raise _disk_error(error, name, staging) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def onnx_is_current(store: ModelStore, name: str, precision: str) -> bool:
    """True when an ONNX form of this version is here, made of the published files that are here, if any, and
    undamaged as far as sizes and times tell."""
    directory = store.onnx_dir(name, precision)
    try:
        facts = json.loads((directory / FACTS).read_text(encoding="utf-8"))
        check(directory)
        published = store.has_source(name) and read_manifest(store.source_dir(name)).digests["model.bin"]
        return bool(facts["format"] == FORMAT and published in (False, facts["source"]))
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return False


def convert_to_onnx(name: str, store: ModelStore, precision: str) -> Path:
    """Make the ONNX form of a stored model anew; it replaces an older one in one rename.

    Raises:
        ModelMissing, DigestMismatch: the published files are not here, or damaged.
        ModelError: they are of a kind that cannot be converted, or another process is at work on them.
        DiskFull: not enough room.
    """
    if precision not in PRECISIONS:
        raise ModelError(
            f"no ONNX form has the number type {precision}", remedy=f"use one of {', '.join(PRECISIONS)}"
        )
    with locked(store.lock_path(name), name):
        source, target = store.published_dir(name), store.onnx_dir(name, precision)
        staging = target.with_name(target.name + ".partial")
        shutil.rmtree(staging, ignore_errors=True)
        try:
            staging.mkdir(parents=True)
            digest = check(source).digests["model.bin"]
            write_onnx(source, staging, PRECISIONS[precision], digest)
            names = sorted(path.name for path in staging.iterdir())
            for file in names:
                sync_file(staging / file)
            seal(staging, name, {file: sha256_of(staging / file) for file in names})
            put_in_place(staging, target)
        except OSError as error:
            raise _disk_error(error, name, target) from error
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{name} cannot be converted ({error})",
                remedy="only Whisper models in CTranslate2's form can",
            ) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return target


def write_onnx(source: Path, target: Path, precision: Precision, digest: str) -> None:
    """Write the graphs and all that belongs to them, of a directory that holds CTranslate2's files.

    Raises:
        ValueError, KeyError, TypeError: it holds something else.
        OSError: a file cannot be read or written.
    """
    weights = map_ct2(source / "model.bin")
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    heads = [(int(layer), int(head)) for layer, head in config.get("alignment_heads") or []]
    onnx_whisper.write_encoder(target / "encoder.onnx", weights, precision)
    onnx_whisper.write_cross(target / "cross.onnx", weights, precision)
    onnx_whisper.write_decoder(target / "decoder.onnx", weights, precision, heads)
    facts = {**_facts(weights, config), "precision": precision, "source": digest}
    (target / FACTS).write_text(json.dumps(facts), encoding="utf-8")
    for name in _VOCABULARIES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if (source / "tokenizer.json").is_file():
        described = repaired(json.loads((source / "tokenizer.json").read_text(encoding="utf-8")))
        (target / "tokenizer.json").write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")


def _facts(weights: Weights, config: dict[str, list[int]]) -> dict[str, object]:
    heads = int(weights["decoder/num_heads"])
    vocabulary, width = weights["decoder/embeddings/weight"].shape
    if width != heads * onnx_whisper.HEAD_WIDTH:
        raise ValueError(f"{heads} heads for a width of {width}")
    return {
        "format": FORMAT,
        "mels": int(weights["encoder/conv1/weight"].shape[1]),
        "layers": onnx_whisper.layers(weights, "decoder"),
        "heads": heads,
        "vocabulary": int(vocabulary),
        "suppressed": config["suppress_ids"],
        "suppressed_first": config["suppress_ids_begin"],
    }


def _disk_error(error: OSError, name: str, target: Path) -> ModelError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no room left in {target.parent} to convert {name}", remedy="free some space")
    return ModelError(
        f"{target} cannot be written ({error.strerror or error})", remedy="check its permissions"
    )
