"""Builds an engine for TensorRT-LLM on the machine that will run it: convert, build, seal, prove, activate.

Commands run in the environment of TensorRT-LLM, under time-outs (a build of large-v2's encoder is known to
hang with some versions), into a directory that no loader looks at. One rename makes the result count, after a
known recording was recognised with it. Not yet run on hardware.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from edge_agent.engine import trtllm, trtllm_files
from edge_agent.engine import trtllm_recipe as recipe
from edge_agent.engine.base import Engine, EngineConfig
from edge_agent.engine.trtllm_client import INHERITED, WorkerClient
from edge_agent.engine.trtllm_files import Found
from edge_agent.errors import EngineError, EngineLoadFailed

log = logging.getLogger(__name__)

CONVERTER = "convert_checkpoint.py"
_CONVERT_TIMEOUT_S = 1800.0
_BUILD_TIMEOUT_S = 5400.0
_CHECKPOINT_NAME = "large-v2.pt"

Prove = Callable[[Engine], str]
"""Recognises a known recording; answers what is wrong, or nothing."""


def build(config: EngineConfig, checkpoint: Path, examples: Path, prove: Prove) -> Found:
    """Build the engine that `trtllm.open_engine` would look for with this configuration.

    Args:
        checkpoint: OpenAI-format `.pt` of the same model (Breeze-ASR-25's authors publish one).
        examples: TensorRT-LLM's `examples/models/core/whisper`.

    Raises:
        EngineLoadFailed: the environment or the model cannot be used.
        EngineError: a step failed, hung, or the result does not recognise.
    """
    _look(checkpoint, examples)
    client = WorkerClient(trtllm.python())
    try:
        if client.environment.driver != "engine":
            raise EngineLoadFailed(
                f"TensorRT-LLM {client.environment.tensorrt_llm} runs no engine files",
                remedy=f"install {recipe.VERSION} with provisioning/trtllm.sh",
            )
        mels, _, digest = trtllm_files.model_facts(config.model_dir)
        key = trtllm.key_for(client.environment, digest, config)
        target = trtllm_files.engines_dir(config.model_dir) / key.name
        staging = target.with_name(f"{target.name}.partial")
        shutil.rmtree(staging, ignore_errors=True)
        try:
            engine_dir = _make(key, checkpoint, examples, staging)
            trtllm_files.seal(engine_dir, key, client.environment)
            found = trtllm_files.checked(engine_dir, key, mels)
            _prove(config, client, found, prove)
            _activate(engine_dir, target)
            _remember(config, checkpoint, examples)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    finally:
        client.close()
    return Found(key=key, directory=target)


def rebuild(model_dir: Path, model_name: str, prove: Prove) -> Found | None:
    """Build an engine anew, as it was built, where the one that is there fits this machine no more: another
    driver, other versions, a damaged file. None: it fits, or none was ever built here.

    Raises:
        EngineLoadFailed, EngineError: as `build`.
    """
    kept = trtllm_files.recalled(model_dir)
    if kept is None:
        return None
    config = EngineConfig(
        kind="tensorrt-llm",
        model_dir=model_dir,
        model_name=model_name,
        compute_type=kept.precision,
        device="cuda",
        workers=kept.batch,
    )
    if _fits(config):
        return None
    return build(config, Path(kept.checkpoint), Path(kept.examples), prove)


def _fits(config: EngineConfig) -> bool:
    with closing(WorkerClient(trtllm.python())) as client:
        mels, _, digest = trtllm_files.model_facts(config.model_dir)
        wanted = trtllm.key_for(client.environment, digest, config)
        try:
            trtllm_files.find(config.model_dir, wanted, client.environment, mels)
        except EngineLoadFailed as error:
            log.info("%s is built again: %s", config.model_name, error.cause)
            return False
        return True


def _remember(config: EngineConfig, checkpoint: Path, examples: Path) -> None:
    recipe_ = trtllm_files.Recipe(
        checkpoint=str(checkpoint.resolve()),
        examples=str(examples.resolve()),
        precision=config.compute_type,
        batch=config.workers,
    )
    try:
        trtllm_files.remember(config.model_dir, recipe_)
    except OSError as error:
        log.warning("how the engine was built cannot be kept (%s); it will not be built again", error)


def _look(checkpoint: Path, examples: Path) -> None:
    if not checkpoint.is_file():
        raise EngineError(f"there is no checkpoint {checkpoint}", remedy="name an OpenAI-format .pt file")
    if not (examples / CONVERTER).is_file():
        raise EngineError(
            f"{examples} holds no {CONVERTER}",
            remedy="run: provisioning/trtllm.sh, or name it with --examples",
        )


def _make(key: recipe.Key, checkpoint: Path, examples: Path, staging: Path) -> Path:
    """Run the commands; answers the directory with encoder/ and decoder/."""
    named, converted, engine = staging / "checkpoint", staging / "converted", staging / "engine"
    named.mkdir(parents=True)
    (named / _CHECKPOINT_NAME).symlink_to(checkpoint.resolve())
    python = str(trtllm.python())
    # Beside the Python that a link may stand for: the environment's own bin directory.
    builder = str(trtllm.python().parent / "trtllm-build")
    convert = [python, str(examples / CONVERTER)]
    convert += recipe.convert_arguments(str(named), str(converted), key.precision)
    _run("converting the checkpoint", convert, staging, _CONVERT_TIMEOUT_S)
    for side, arguments in (("encoder", recipe.encoder_arguments), ("decoder", recipe.decoder_arguments)):
        command = [builder, *arguments(str(converted), str(engine), key.sizes)]
        _run(f"building the {side}", command, staging, _BUILD_TIMEOUT_S)
    return engine


def _run(what: str, command: Sequence[str], directory: Path, timeout_s: float) -> None:
    log.info("%s: %s", what, " ".join(command))
    try:
        done = subprocess.run(
            command,
            cwd=directory,  # the builder leaves its timing cache in the working directory
            env={name: os.environ[name] for name in INHERITED if name in os.environ},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"{what} did not end in {timeout_s / 60:.0f} minutes",
            remedy="try a smaller batch, or another version",
        ) from error
    except OSError as error:
        raise EngineError(
            f"{what} cannot be started: {error}", remedy="run: provisioning/trtllm.sh"
        ) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise EngineError(
            f"{what} failed ({done.returncode}): {lines[-1][:200] if lines else 'no message'}",
            remedy="run it again with -v to see the command",
        )


def _prove(config: EngineConfig, client: WorkerClient, found: Found, prove: Prove) -> None:
    fault = prove(trtllm.load(config, client, found))
    if fault:
        raise EngineError(f"the engine was built but {fault}", remedy="build it with another precision")


def _activate(engine_dir: Path, target: Path) -> None:
    """One rename; an engine that was there goes first, because a directory cannot replace a full one."""
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    engine_dir.rename(target)
    shutil.rmtree(old, ignore_errors=True)
