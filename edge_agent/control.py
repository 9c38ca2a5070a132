"""What is asked from afar, carried out on the main thread: commands, desired configuration, bridges.

Everything else flows one way; this is the one place where the outside acts on the parts. Messages come from
the courier's inbox, are judged by pure code (`mqtt.commands`, `mqtt.gate`, `mqtt.desired`), carried out by
`hands`, and answered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue

import msgspec

from edge_agent.clock import Clock
from edge_agent.config import Config
from edge_agent.errors import EdgeAgentError
from edge_agent.hands import Hands
from edge_agent.install import Install
from edge_agent.mqtt import commands, desired, wire
from edge_agent.mqtt.aside import Aside, Post
from edge_agent.mqtt.bridges import Bridges, Tell
from edge_agent.mqtt.events import Message
from edge_agent.mqtt.gate import Gate, Moment
from edge_agent.mutes import Mutes
from edge_agent.remote import Beside, Reply, Standing, effective, merge

_log = logging.getLogger(__name__)

_ANSWER_EXPIRY_S = 3600
_COMMANDER = "command"


class Control:
    """`tick` on the main thread.

    Args:
        hands: what can be done.
        aside: where messages come from and answers go to.
        keep: publishes a retained message.
        topics: of this device.
        bridges: conventions that are switched on.
        standing: what outlives a restart.
        clock: both times.
    """

    def __init__(
        self,
        hands: Hands,
        aside: Aside,
        *,
        keep: Callable[[str, bytes], None],
        topics: wire.Topics,
        bridges: Bridges,
        standing: Standing,
        clock: Clock,
    ) -> None:
        self.restart = False
        """The process should end cleanly, for the service manager to start it again."""
        self._hands, self._aside, self._keep, self._topics = hands, aside, keep, topics
        self._bridges, self._store, self._base, self._clock = bridges, standing.store, standing.base, clock
        store = standing.store
        started_ns = clock.monotonic_ns()
        self._gate = Gate(started_ns=started_ns, seen=store.value.seen)
        self._bridge_gate = Gate(started_ns=started_ns)
        self._mutes = Mutes()
        self._testing = False
        self._later: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._rejected = effective(standing.base, store.value).rejected
        self._running = standing.config
        """What the parts were started with: holds for what takes a restart."""
        self._config = self._running
        self.install = Install(store, answer=self._answer, later=self._later.put)
        self._pending: tuple[str, ...] = ()
        self.on_config: Callable[[Config], None] = lambda _config: None
        """Told of each configuration that is taken over."""
        self.beside: Callable[[], Beside] = Beside
        """Asked for each `up/config`."""

    @property
    def muted(self) -> tuple[str, ...]:
        """Who wants the microphone closed; nobody: it is open."""
        return self._mutes.holders

    def start(self) -> None:
        """Before the ears start: take up what was in force, tell the broker what it is."""
        remote = self._store.value
        if remote.muted:
            self._resume_mute(remote.muted_until_utc_ms)
        if remote.restarting is not None:
            self._answer(remote.restarting, "done", result={"profile": self._hands.profile})
            self._store.change(restarting=None)
        self.install.resume()
        self._report()
        self._tell_bridges()

    def tick(self) -> bool:
        """Do what was asked since the last call; True when the device's state may have changed."""
        before = self._mutes.holders
        for message in self._aside.take():
            self._route(message)
        try:
            while True:
                self._later.get_nowait()()
        except Empty:
            pass
        if _COMMANDER in self._mutes.expire(self._clock.monotonic_ns()):
            self._store.change(muted=False, muted_until_utc_ms=None)
        if self._mutes.holders != before:
            self._follow_mutes()
        return self._mutes.holders != before

    # -- ways in ------------------------------------------------------------------------------------------

    def _route(self, message: Message) -> None:
        if message.topic == self._topics.command:
            self._on_command(message)
        elif message.topic == self._topics.desired:
            self._on_desired(message.payload)
        else:
            for name, ask in self._bridges.incoming(message):
                if isinstance(ask, Tell):
                    self._tell_bridges()
                else:
                    self._on_bridge(name, ask)

    def _on_command(self, message: Message) -> None:
        if message.retain:
            return  # an order from the past
        read = commands.read(message.payload)
        refused = read if isinstance(read, commands.Refusal) else self._gate.admit(read, self._now())
        reply = Reply(
            command_id=read.command_id,
            response_topic=self._safe_response(message.response_topic),
            correlation=message.correlation,
        )
        if refused is not None:
            _log.warning("command refused", extra={"command": reply.command_id, "why": refused.reason})
            self._answer(reply, refused.state, refused.reason)
            return
        assert isinstance(read, commands.Command)
        kind = commands.kind_of(read.action)
        _log.info("command", extra={"command": reply.command_id, "type": kind})
        self._answer(reply, "accepted")
        self._carry_out(read.action, _COMMANDER, reply)
        self._store.change(seen=self._gate.seen)  # after acting: the disk may take its time

    def _on_bridge(self, name: str, action: commands.Action) -> None:
        kind = commands.kind_of(action)
        too_often = self._bridge_gate.pace(kind, self._now())
        if too_often:
            _log.warning("bridge refused", extra={"bridge": name, "type": kind, "why": too_often})
            return
        _log.info("bridge", extra={"bridge": name, "type": kind})
        # Home Assistant's switch is an operator's hand, as a command is; Hermes' toggles are a programme's.
        self._carry_out(action, name if name == "hermes" else _COMMANDER, None)

    def _now(self) -> Moment:
        clock = self._clock
        return Moment(utc_ms=clock.utc_ms(), monotonic_ns=clock.monotonic_ns(), synced=clock.synced())

    # -- carrying out -------------------------------------------------------------------------------------

    def _carry_out(self, action: commands.Action, holder: str, reply: Reply | None) -> None:
        try:
            result = self._do(action, holder, reply)
        except EdgeAgentError as error:
            _log.warning("not carried out", extra={"why": str(error)})
            self._answer(reply, "refused", str(error))
            return
        if result is not None:
            self._answer(reply, "done", result=result)

    def _do(self, action: commands.Action, holder: str, reply: Reply | None) -> Mapping[str, object] | None:
        """Do it; the result, or None when the answer comes later."""
        match action:
            case commands.Mute():
                return self._mute(action, holder)
            case commands.Unmute():
                return self._unmute(holder)
            case commands.Flush() | commands.Listen() | commands.ReloadTerms() | commands.Replay():
                return self._at_once(action)
            case commands.SelfTest():
                return self._self_test(reply)
            case commands.SetProfile():
                return self._set_profile(action.profile, reply)
            case commands.Restart():
                self._restart(reply)
            case commands.InstallModel():
                assert reply is not None  # no bridge has this one
                self.install.ask(action, reply)
        return None

    def _at_once(
        self, action: commands.Flush | commands.Listen | commands.ReloadTerms | commands.Replay
    ) -> Mapping[str, object]:
        match action:
            case commands.Flush():
                self._hands.flush()
                return {}
            case commands.Listen():
                self._hands.listen(action.channel, action.duration_s)
                return {}
            case commands.ReloadTerms():
                return {"terms": len(self._hands.set_terms(action.terms)), "until": "restart"}
            case commands.Replay():
                since_ms = None if action.since is None else commands.utc_ms(action.since)
                return {"messages": self._hands.replay(from_seq=action.from_seq, since_utc_ms=since_ms)}

    def _mute(self, action: commands.Mute, holder: str) -> Mapping[str, object]:
        until_ns = until_ms = None
        if action.duration_s is not None:
            until_ns = self._clock.monotonic_ns() + int(action.duration_s * 1e9)
            until_ms = self._clock.utc_ms() + int(action.duration_s * 1e3)
        self._mutes.mute(holder, until_ns)
        if holder == _COMMANDER:
            self._store.change(muted=True, muted_until_utc_ms=until_ms)
        self._follow_mutes()
        return {"muted": True}

    def _unmute(self, holder: str) -> Mapping[str, object]:
        self._mutes.unmute(None if holder == _COMMANDER else holder)
        if holder == _COMMANDER and self._store.value.muted:
            self._store.change(muted=False, muted_until_utc_ms=None)
        self._follow_mutes()
        return {"muted": self._mutes.muted}

    def _follow_mutes(self) -> None:
        if self._mutes.muted:
            self._hands.mute()
        else:
            self._hands.unmute()

    def _resume_mute(self, until_utc_ms: int | None) -> None:
        left_ms = None if until_utc_ms is None else until_utc_ms - self._clock.utc_ms()
        if left_ms is not None and left_ms <= 0:
            self._store.change(muted=False, muted_until_utc_ms=None)
            return
        # A clock that was set back since then must not make it longer than a command can.
        until_ns = None
        if left_ms is not None:
            until_ns = self._clock.monotonic_ns() + min(left_ms, 86_400_000) * 1_000_000
        self._mutes.mute(_COMMANDER, until_ns)
        self._follow_mutes()

    def _self_test(self, reply: Reply | None) -> Mapping[str, object] | None:
        if self._testing:
            self._answer(reply, "refused", "a self-test is running already")
            return None
        self._testing = True

        def done(wrong: str, result: Mapping[str, object]) -> None:
            self._later.put(lambda: self._tested(reply, wrong, result))

        self._answer(reply, "running")
        self._hands.self_test(done)
        return None

    def _tested(self, reply: Reply | None, wrong: str, result: Mapping[str, object]) -> None:
        self._testing = False
        _log.info("self-test", extra={"passed": not wrong, "why": wrong})
        self._answer(reply, "done", wrong, {"passed": not wrong, **result})

    def _set_profile(self, name: str, reply: Reply | None) -> Mapping[str, object] | None:
        ours = self.beside().values.get("fleet.profile")
        if ours:
            why = f"the fleet's profile {ours} serves: change fleet.profile and fleet.profile_version"
            self._answer(reply, "refused", why)
            return None
        would_be = self._hands.profile_for(name)
        if not self._store.change(profile=name):
            self._answer(reply, "refused", "the disk does not take it; it would be forgotten by the restart")
            return None
        if would_be == self._hands.profile:
            return {"profile": would_be, "restarted": False}
        self._restart(reply)
        return None

    def _restart(self, reply: Reply | None) -> None:
        self._answer(reply, "running")
        self._store.change(restarting=reply, seen=self._gate.seen)
        self.restart = True

    # -- desired configuration ----------------------------------------------------------------------------

    def _on_desired(self, payload: bytes) -> None:
        if not payload:
            return  # the retained document was removed: what is in force stays so
        read, now = desired.read(payload), self._store.value
        if isinstance(read, desired.Unreadable):
            self._report(("desired", read.why))
            return
        stale = desired.versioned(read, now.version, now.values)
        if stale:
            self._report(("version", stale))
            return
        if read.version > now.version:
            self._take(read)
        self._report()

    def _take(self, document: desired.Desired) -> None:
        judged = desired.judge(self._base, document, merge)
        self._pending = self._hands.apply(judged.config)
        self._config, self._rejected = judged.config, judged.rejected
        self.on_config(judged.config)
        kept = self._store.change(version=document.version, values=document.values)
        if not kept:
            self._rejected = (*self._rejected, ("desired", "in force until the restart: not written to disk"))
        _log.info(
            "desired configuration",
            extra={
                "version": document.version,
                "keys": list(judged.accepted),
                "pending": list(self._pending),
            },
        )

    def report_soon(self) -> None:
        """Publish `up/config` anew at the next tick. Any thread."""
        self._later.put(self._report)

    def refit_soon(self) -> None:
        """Set the parts by the configuration and the profile that serves, at the next tick. Any thread."""
        self._later.put(self._refit)

    def _refit(self) -> None:
        self._pending = self._hands.apply(self._config)

    def _report(self, refused: tuple[str, str] | None = None) -> None:
        """`up/config`: what is in force, what waits for a restart, what was refused and why."""
        now, before = _values(self._config), _values(self._running)
        values = {key: (before if key in self._pending else now)[key] for key in desired.ALLOWED}
        beside = self.beside()
        body = wire.encode_config(
            version=self._store.value.version,
            reported=desired.nested({**values, **beside.values}),
            pending=(*self._pending, *beside.pending),
            rejected=(*self._rejected, *beside.rejected, *(() if refused is None else (refused,))),
        )
        self._keep(self._topics.config, body)

    # -- ways out -----------------------------------------------------------------------------------------

    def _tell_bridges(self) -> None:
        for topic, payload in self._bridges.retained():
            self._keep(topic, payload)

    def _answer(
        self,
        reply: Reply | None,
        state: wire.AnswerState,
        reason: str = "",
        result: Mapping[str, object] | None = None,
    ) -> None:
        if reply is None:
            return
        body = wire.encode_answer(
            command_id=reply.command_id, state=state, reason=reason[:500], result=result
        )
        self._aside.put(Post(topic=self._topics.answer, payload=body, expiry_s=_ANSWER_EXPIRY_S))
        if reply.response_topic:
            self._aside.put(
                Post(
                    topic=reply.response_topic,
                    payload=body,
                    expiry_s=_ANSWER_EXPIRY_S,
                    correlation=reply.correlation,
                )
            )

    def _safe_response(self, topic: str) -> str:
        """Where to answer besides `up/answer`; "" when an answer there could pass for something else."""
        if not topic or len(topic) > 256 or topic.startswith("$") or any(c in topic for c in "+#\0"):
            return ""
        ours = topic.startswith(f"{self._topics.prefix}/")
        return "" if ours and not topic.startswith(f"{self._topics.answer}/") else topic


def _values(config: Config) -> dict[str, object]:
    tables: dict[str, dict[str, object]] = msgspec.to_builtins(config)
    return {key: tables[key.partition(".")[0]][key.partition(".")[2]] for key in desired.ALLOWED}
