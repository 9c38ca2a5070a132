"""What can be done to the running parts from afar. Main thread; nothing here waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from edge_agent.audio.several import AllCutters, AllEars
from edge_agent.config import Config
from edge_agent.errors import UsageError
from edge_agent.ledger import Ledger
from edge_agent.meaning import endpoint_config, partial_config, wish_of
from edge_agent.opening import Recogniser, choose_profile, decode_options, resolve_model
from edge_agent.outbox.store import Outbox
from edge_agent.remote import Standing
from edge_agent.scribe import Scribe
from edge_agent.selftest import clip, examine

Done = Callable[[str, Mapping[str, object]], None]
"""Tells how a longer job ended: what is wrong ("" when nothing is) and the result. Any thread."""


class Hands:
    """Acts on the parts.

    Args:
        ears, cutter, scribe, ledger, outbox: the running parts.
        config: the configuration they were made with.
        serving: the recogniser that works now.
        standing: where the configuration file and the models are.
    """

    def __init__(
        self,
        *,
        ears: AllEars,
        cutter: AllCutters,
        scribe: Scribe,
        ledger: Ledger,
        outbox: Outbox,
        config: Config,
        serving: Callable[[], Recogniser],
        standing: Standing,
    ) -> None:
        self._ears, self._cutter, self._scribe, self._ledger = ears, cutter, scribe, ledger
        self._outbox, self._config, self._serving, self._standing = outbox, config, serving, standing

    def mute(self) -> None:
        """Close the microphone."""
        self._ears.mute()

    def unmute(self) -> None:
        """Open it."""
        self._ears.unmute()

    def flush(self) -> None:
        """Publish what is being said now."""
        self._cutter.flush()

    def listen(self, channel: int | None, duration_s: float | None) -> None:
        """Open the gate of one channel or of all.

        Raises:
            UsageError: there is no gate, or no such channel.
        """
        if self._config.gate.mode == "always":
            raise UsageError("it listens all the time", remedy='gate.mode = "command" makes it wait for this')
        if channel is not None and channel not in self._cutter.channels:
            raise UsageError(
                f"there is no channel {channel}",
                remedy=f"use 0 to {self._cutter.channels[-1]}, or none for all",
            )
        self._cutter.listen(channel, duration_s)

    def set_terms(self, terms: tuple[str, ...] | None) -> tuple[str, ...]:
        """Use these domain words from the next decode on, or those of the configuration file; answers them.

        Raises:
            ConfigError: the file cannot be used.
        """
        chosen = self._standing.reload().recognition.terms if terms is None else terms
        self._scribe.set_options(msgspec.structs.replace(self._scribe.options, terms=chosen))
        return chosen

    def self_test(self, done: Done) -> None:
        """Recognise the known recording when nothing else waits, in a pause of the speakers.

        Raises:
            AudioFileError: the recording is missing.
        """
        sound = clip()
        self._scribe.work.errand(lambda: done(*examine(self._serving().engine, self._scribe.options, sound)))

    def replay(self, *, from_seq: int | None, since_utc_ms: int | None) -> int:
        """Queue delivered messages again; how many.

        Raises:
            OutboxError: the disk takes no writes.
        """
        return self._outbox.replay(from_seq=from_seq, since_utc_ms=since_utc_ms)

    @property
    def profile(self) -> str:
        """The one that serves now."""
        return self._serving().choice.profile.name

    def profile_for(self, name: str) -> str:
        """The profile that would serve under this name, with its model in place.

        Raises:
            EdgeAgentError: it cannot serve here, or its model is not here.
        """
        wish = msgspec.structs.replace(wish_of(self._config, self._standing.models_dir), profile=name)
        _, choice = choose_profile(wish)
        resolve_model(wish, choice)
        return choice.profile.name

    def apply(self, config: Config) -> tuple[str, ...]:
        """Work with this configuration from now on; answers the keys that take a restart."""
        recogniser, wish = self._serving(), wish_of(config, self._standing.models_dir)
        pending: list[str] = []
        if self._other_model(config):
            pending.append("recognition.language")
            wish = msgspec.structs.replace(wish, language=self._config.recognition.language)
        if config.device.site != self._config.device.site and self._told_to_bridges:
            pending.append("device.site")
        else:
            self._ledger.origin = msgspec.structs.replace(self._ledger.origin, site=config.device.site)
        self._scribe.set_options(decode_options(wish, recogniser.choice))
        self._scribe.work.set_partials(partial_config(config, recogniser.choice.profile))
        self._cutter.configure(endpoint_config(config, recogniser.choice.profile))
        return tuple(pending)

    @property
    def _told_to_bridges(self) -> bool:
        """Other programmes know us by the site."""
        return self._config.bridges.hermes or self._config.bridges.home_assistant

    def _other_model(self, config: Config) -> bool:
        profile, before = self._serving().choice.profile, self._config.recognition
        model_for = profile.model_for
        return not before.model and model_for(config.recognition.language) != model_for(before.language)
