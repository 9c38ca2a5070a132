"""At the start: the configuration file's values with those set from afar over them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from edge_agent.config import Config
from edge_agent.errors import ConfigError
from edge_agent.meaning import wish_of
from edge_agent.opening import choose_profile
from edge_agent.remote import RemoteStore, Standing, effective, with_profile

_log = logging.getLogger(__name__)


def from_afar(config: Config, state: Path, models_dir: Path, reload: Callable[[], Config]) -> Standing:
    """What holds now. Nothing that was set from afar can keep the device from starting.

    Args:
        config: the configuration file's.
        state: the state directory.
        models_dir: where models live.
        reload: reads the configuration file again.
    """
    store = RemoteStore(state / "remote.json")
    base = config
    if store.value.profile:
        try:
            base = with_profile(config, store.value.profile)
            choose_profile(wish_of(base, models_dir))
        except ConfigError as error:
            _log.error("the profile set from afar is given up", extra={"why": str(error)})
            store.change(profile="")
            base = config
    judged = effective(base, store.value)
    for key, why in judged.rejected:
        _log.error("not taken from the desired configuration", extra={"config_key": key, "why": why})
    return Standing(store=store, base=base, config=judged.config, reload=reload, models_dir=models_dir)
