"""What may be asked of a device, and what is refused: pure, so hostile input is cheap to try."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_agent.mqtt import commands
from edge_agent.mqtt.commands import Command, Refusal, read
from edge_agent.mqtt.contract import problems
from edge_agent.mqtt.gate import MAX_IDS, Gate, Moment

NOW_MS = 1_795_179_600_000  # 2026-11-20T13:00:00Z
MINUTE_NS = 60_000_000_000


def stamp(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def message(kind: str = "flush", args: object = None, **other: object) -> dict:
    return {
        "schema": "command/1",
        "command_id": "c-1",
        "type": kind,
        "args": {} if args is None else args,
        "issued_at": stamp(NOW_MS),
        "expires_at": stamp(NOW_MS + 60_000),
        **other,
    }


def parsed(body: dict) -> Command | Refusal:
    return read(json.dumps(body).encode())


def at(seconds: float = 0, *, synced: bool = True) -> Moment:
    """So long after the command was issued, on a device that started an hour before."""
    return Moment(
        utc_ms=NOW_MS + round(seconds * 1000),
        monotonic_ns=60 * MINUTE_NS + round(seconds * 1e9),
        synced=synced,
    )


def made(kind: str = "flush", args: object = None, **other: object) -> Command:
    command = parsed(message(kind, args, **other))
    assert isinstance(command, Command), command
    return command


GOOD = [
    ("mute", {}, commands.Mute()),
    ("mute", {"duration_s": 90}, commands.Mute(duration_s=90.0)),
    ("unmute", {}, commands.Unmute()),
    ("flush", {}, commands.Flush()),
    ("listen", {}, commands.Listen()),
    ("listen", {"duration_s": 0, "channel": 3}, commands.Listen(duration_s=0.0, channel=3)),
    ("set_profile", {"profile": "cpu-avx2"}, commands.SetProfile(profile="cpu-avx2")),
    ("reload_terms", {}, commands.ReloadTerms()),
    ("reload_terms", {"terms": ["crane", "塔吊"]}, commands.ReloadTerms(terms=("crane", "塔吊"))),
    ("self_test", {}, commands.SelfTest()),
    ("replay", {"from_seq": 8812}, commands.Replay(from_seq=8812)),
    (
        "replay",
        {"since": "2026-11-20T13:00:00Z"},
        commands.Replay(since=datetime(2026, 11, 20, 13, tzinfo=UTC)),
    ),
    ("install_model", {"model": "kiosk", "version": 3}, commands.InstallModel(model="kiosk", version=3)),
    ("restart", {}, commands.Restart()),
]


class TestReading:
    """Bytes to an Action or a Refusal."""

    @pytest.mark.parametrize(("kind", "args", "action"), GOOD)
    def test_each_command_of_the_closed_set(self, kind: str, args: dict, action: commands.Action) -> None:
        """Parsed into its own type, and good by the published schema."""
        assert made(kind, args).action == action
        assert problems("command", message(kind, args)) == []

    def test_the_set_is_the_contracts(self) -> None:
        """Nothing more can be asked."""
        assert {kind for kind, _, _ in GOOD} == set(commands.TYPES)

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (message("reboot"), "type: not one of"),
            (message("mute", {"duration_s": 0}), "duration_s"),
            (message("mute", {"duration_s": "1"}), "duration_s"),
            (message("mute", {"duration_s": 86_401}), "duration_s"),
            (message("mute", {"until": 1}), "unknown field"),
            (message("mute", []), "args"),
            (message("mute", {"type": "restart"}), "args"),
            (message("set_profile"), "profile"),
            (message("set_profile", {"profile": "../../etc/passwd"}), "profile"),
            (message("install_model", {"model": "http://x/y", "version": 1}), "model"),
            (message("install_model", {"model": "m"}), "version"),
            (message("install_model", {"model": "m", "version": 0}), "version"),
            (message("reload_terms", {"terms": ["x" * 101]}), "terms"),
            (message("reload_terms", {"terms": ["x"] * 501}), "terms"),
            (message("replay"), "one of them"),
            (message("replay", {"from_seq": 1, "since": stamp(NOW_MS)}), "one of them"),
            (message("replay", {"from_seq": 0}), "from_seq"),
            (message("replay", {"since": "2026-11-20T13:00:00"}), "timezone"),
            (message(schema="command/2"), "schema"),
            (message(command_id=""), "command_id"),
            (message(command_id="x" * 65), "command_id"),
            (message(command_id="a b"), "command_id"),
            (message(command_id=7), "command_id"),
            (message(issued_at="yesterday"), "issued_at"),
            (message(expires_at=None), "expires_at"),
        ],
    )
    def test_what_does_not_fit_is_refused_by_name(self, body: dict, reason: str) -> None:
        """The reason names the field."""
        refusal = parsed(body)
        assert isinstance(refusal, Refusal)
        assert reason in refusal.reason
        assert problems("command", body) or reason == "timezone" or "issued" in reason or "expires" in reason

    def test_a_name_ends_where_it_ends(self) -> None:
        """A newline after a good name makes it a bad one."""
        assert isinstance(parsed(message("set_profile", {"profile": "cpu-avx2\n"})), Refusal)

    def test_unknown_fields_of_the_envelope_are_ignored(self) -> None:
        """Within a major, fields are added."""
        assert isinstance(parsed(message(trace="abc")), Command)

    def test_a_refusal_carries_the_id_where_it_can_be_read(self) -> None:
        """So that its sender can tell; another word otherwise."""
        assert parsed(message("reboot")).command_id == "c-1"
        assert parsed(message(command_id=7)).command_id == commands.NO_ID

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"null",
            b"[]",
            b"\xff",
            b"[" * 65_000,
            b'{"a":' * 10_000,
            b" " * 70_000,
            b'"\\ud800"',
            b"1e999",
        ],
    )
    def test_junk_is_refused(self, payload: bytes) -> None:
        """And raises nothing."""
        assert isinstance(read(payload), Refusal)

    @given(st.binary(max_size=2000))
    @example(json.dumps(message()).encode()[:-1])
    def test_no_bytes_make_it_fall_over(self, payload: bytes) -> None:
        """An answer, whatever comes."""
        assert isinstance(read(payload), Command | Refusal)

    @given(
        st.dictionaries(
            st.sampled_from([*message(), "x"]),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
                ),
                max_leaves=8,
            ),
        ),
        st.sampled_from(commands.TYPES),
    )
    def test_no_json_makes_it_fall_over(self, other: dict, kind: str) -> None:
        """Good fields mixed with anything; what passes keeps to the published schema."""
        body = {**message(kind), **other}
        answer = parsed(body)
        if isinstance(answer, Command):
            assert [p for p in problems("command", body) if "duration_s" not in p] == []


class TestGate:
    """Whether a well-formed command is carried out now."""

    def gate(self) -> Gate:
        return Gate(started_ns=0)

    def test_a_fresh_command_passes_once(self) -> None:
        """The same id again is refused."""
        gate = self.gate()
        assert gate.admit(made(), at(1)) is None
        assert "used before" in gate.admit(made(), at(2)).reason

    def test_ids_outlive_a_restart(self) -> None:
        """A sender that repeats `restart` until it hears `done` must not restart it twice."""
        gate = self.gate()
        gate.admit(made(), at(1))
        assert "used before" in Gate(started_ns=0, seen=gate.seen).admit(made(), at(2)).reason

    def test_expired_is_told_as_such(self) -> None:
        """State `expired`, to the second."""
        assert self.gate().admit(made(), at(59.9)) is None
        refusal = self.gate().admit(made(), at(60))
        assert (refusal.state, refusal.reason) == ("expired", "expired 0 s ago")

    @pytest.mark.parametrize(
        ("issued", "expires", "reason"),
        [
            (0, 0, "not after issued_at"),
            (10, 5, "not after issued_at"),
            (0, 24 * 3600 + 1, "more than 24 hours"),
            (301, 400, "in the future"),
        ],
    )
    def test_times_that_make_no_sense(self, issued: float, expires: float, reason: str) -> None:
        """Refused, not guessed at."""
        command = made(
            issued_at=stamp(NOW_MS + int(issued * 1000)), expires_at=stamp(NOW_MS + int(expires * 1000))
        )
        assert reason in self.gate().admit(command, at(0)).reason

    def test_without_a_believable_clock_expiry_is_not_judged(self) -> None:
        """A device in 1970 must still be told to unmute; its lifetime is judged all the same."""
        assert self.gate().admit(made(), at(-50 * 365 * 86_400, synced=False)) is None
        forever = made(expires_at=stamp(NOW_MS + 90_000_000))
        assert "24 hours" in self.gate().admit(forever, at(0, synced=False)).reason

    def test_ids_are_forgotten_when_they_would_be_expired_anyway(self) -> None:
        """Memory is bounded by time."""
        gate = self.gate()
        gate.admit(made(), at(1))
        gate.admit(made(command_id="c-2", expires_at=stamp(NOW_MS + 3_600_000)), at(61))
        assert list(gate.seen) == ["c-2"]

    def test_ids_are_bounded_in_number(self) -> None:
        """Those that expire first are forgotten first."""
        seen = {f"old-{number}": NOW_MS + 1000 * number for number in range(MAX_IDS)}
        gate = Gate(started_ns=0, seen=seen)
        gate.admit(made(), at(0, synced=False))
        assert len(gate.seen) == MAX_IDS
        assert "old-0" not in gate.seen
        assert "c-1" in gate.seen

    @pytest.mark.parametrize(
        ("kind", "limit"), [("mute", 30), ("self_test", 6), ("restart", 1), ("flush", 120)]
    )
    def test_rates(self, kind: str, limit: int) -> None:
        """So many a minute; the next one is refused and may come again later, with the same id."""
        gate = self.gate()
        for number in range(limit):
            assert gate.admit(made(kind, command_id=f"c-{number}"), at(0.1)) is None
        late = made(kind, command_id="late", expires_at=stamp(NOW_MS + 120_000))
        assert "in a minute" in gate.admit(late, at(0.2)).reason
        assert gate.admit(late, at(60.2)) is None

    def test_unmute_is_never_held_back_by_mute(self) -> None:
        """Nobody can be locked in."""
        gate = self.gate()
        for number in range(40):
            gate.admit(made("mute", command_id=f"c-{number}"), at(0.1))
        assert gate.admit(made("unmute", command_id="u"), at(0.2)) is None

    @pytest.mark.parametrize("kind", ["restart", "set_profile"])
    def test_no_restart_in_the_first_minute(self, kind: str) -> None:
        """One that keeps asking cannot keep the device down."""
        args = {"profile": "auto"} if kind == "set_profile" else {}
        gate = Gate(started_ns=at(0).monotonic_ns - MINUTE_NS // 2)
        assert "less than a minute ago" in gate.admit(made(kind, args), at(1)).reason
        assert gate.admit(made(kind, args), at(31)) is None
