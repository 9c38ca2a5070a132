"""Classes made from the contract."""

import json
import os
from pathlib import Path
from typing import Any

CONTRACT = json.loads(Path(os.environ["FAKE_TRTLLM_CONTRACT"]).read_text())


def make(full_name: str, **methods: Any) -> type:
    """A class whose constructor takes what the contract lists and nothing else."""
    described = CONTRACT["classes"][full_name]
    parameters = described["parameters"]
    constructors = described.get("constructors")

    def construct(self: Any, *args: Any, **given: Any) -> None:
        if constructors:
            if args or set(given) not in [set(names) for names in constructors]:
                raise TypeError(f"{full_name} has no constructor of {sorted(given)}")
        else:
            names = [p["name"] for p in parameters if not p.get("keyword_only")]
            if len(args) > len(names):
                raise TypeError(f"{full_name} takes {len(names)} arguments by position")
            given = {**dict(zip(names, args, strict=False)), **given}
            unknown = set(given) - {p["name"] for p in parameters}
            missing = {p["name"] for p in parameters if p.get("default") == "<required>"} - set(given)
            if unknown or missing:
                raise TypeError(f"{full_name}: unknown {sorted(unknown)}, missing {sorted(missing)}")
        for name, value in given.items():
            setattr(self, name, value)
        ready = getattr(self, "ready", None)
        if ready:
            ready()

    return type(full_name.rsplit(".", 1)[1], (), {"__init__": construct, **methods})


def check_call(full_name: str, method: str, given: dict[str, Any]) -> None:
    """A method is called with the keywords of one of its forms."""
    forms = CONTRACT["classes"][full_name]["methods"][method]
    forms = forms if forms and isinstance(forms[0], list) else [forms]
    if not any(set(given) <= {name.partition("=")[0] for name in form} for form in forms):
        raise TypeError(f"{full_name}.{method} knows no {sorted(given)}")
