"""Arguments as the contract has them, and a builder that writes what the real one writes."""

import json
import os
import sys
from pathlib import Path


def parse(command: str, arguments: list[str]) -> dict[str, str]:
    """Flag -> value; anything the contract does not know ends the process."""
    contract = json.loads(Path(os.environ["FAKE_TRTLLM_CONTRACT"]).read_text())
    known = {flag["name"]: flag for flag in contract["commands"][command]["flags"]}
    given, rest = {}, list(arguments)
    while rest:
        name = rest.pop(0)
        if name not in known:
            sys.exit(f"error: unrecognized arguments: {name}")
        given[name] = "" if known[name].get("type") == "flag" else rest.pop(0)
        choices = known[name].get("choices")
        if choices and given[name] and given[name] not in choices:
            sys.exit(f"error: argument {name}: invalid choice: {given[name]}")
    return given


def build() -> None:
    """trtllm-build: engine and config.json of one side."""
    given = parse("trtllm-build", sys.argv[1:])
    if os.environ["FAKE_TRTLLM"] == "build-fails":
        sys.exit("[TRT] [E] Error Code 10: Internal Error (Could not find any implementation)")
    assert (Path(given["--checkpoint_dir"]) / "rank0.safetensors").is_file()
    place = Path(given["--output_dir"])
    place.mkdir(parents=True)
    config = {
        "version": "1.2.1",
        "pretrained_config": {"n_mels": 80, "hidden_size": 512},
        "build_config": {
            "max_input_len": int(given["--max_input_len"]),
            "max_seq_len": int(given["--max_seq_len"]),
            "max_batch_size": int(given["--max_batch_size"]),
            "max_beam_width": int(given.get("--max_beam_width", "1")),
            "plugin_config": {"remove_input_padding": given.get("--remove_input_padding") == "enable"},
        },
    }
    (place / "config.json").write_text(json.dumps(config))
    (place / "rank0.engine").write_bytes(place.name.encode())
