"""How `listen` shows what it knows: an entry as a line for pipes or for a terminal, the live region. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from edge_agent.screen.glyphs import Glyphs, glyphs, level_meter
from edge_agent.screen.spans import Line, Span, Style, clip, clip_line, line, line_width, wrap
from edge_agent.screen.terminal import Terminal
from edge_agent.verbs.listen_state import Device, Entry, Gauge, ListenState, Partial

_PARTIAL_LINES = 3
_INDENT = 9
"""The text of an entry hangs below itself, not below the time."""
_FRESH_LEVEL_S = 5.0
"""Younger than this, a level is of now; older, its age is shown."""
_CLIPPED_DBFS, _QUIET_DBFS = -1.0, -60.0
_NARROW = 60
_STATE_STYLES: dict[str, Style] = {"online": "good", "degraded": "warn", "muted": "warn", "updating": "warn"}
_ENTRY_STYLES: dict[str, Style] = {"gap": "warn", "event": "dim", "link": "bad", "note": "warn"}


def plain(entry: Entry) -> str:
    """The entry as a line for files and pipes; empty for what only the live view tells."""
    if entry.kind in {"event", "link", "note"}:
        return ""
    facts = f" ({', '.join(entry.facts)})" if entry.facts else ""
    if entry.kind == "state":
        return f"{entry.time} {entry.who} {entry.text}"
    text = f"[{entry.text}]" if entry.kind == "gap" else entry.text
    return f"{entry.time} {entry.who}: {text}{facts}"


def entry_lines(entry: Entry, terminal: Terminal, today: str) -> list[Line]:
    """The entry on a terminal, in as many lines as it needs.

    Args:
        entry: what happened.
        terminal: its width counts.
        today: "2026-11-20", UTC; what is of another day shows its date.
    """
    signs = glyphs(unicode=terminal.unicode)
    date = f"{entry.day} " if entry.day and entry.day != today else ""
    head = line(Span(text=f"{date}{entry.time} ", style="dim"), Span(text=entry.who, style="who"))
    if entry.kind == "final":
        body = line(": ", entry.text)
    elif entry.kind == "state":
        style = _state_style(entry.state)
        body = line(" ", Span(text=f"{_state_sign(entry.state, signs)} {entry.text}", style=style))
    else:
        mark = f"{signs.warn} " if entry.kind in {"gap", "link", "note"} else ""
        text = f"[{entry.text}]" if entry.kind == "gap" else entry.text
        body = line(" " if entry.who else "", Span(text=f"{mark}{text}", style=_ENTRY_STYLES[entry.kind]))
    lines = wrap((*head, *body), terminal.columns - 1, indent=_INDENT)
    if not entry.facts:
        return lines
    facts = line(Span(text=f"({', '.join(entry.facts)})", style="warn" if entry.doubtful else "dim"))
    if line_width(lines[-1]) + 1 + line_width(facts) < terminal.columns:
        return [*lines[:-1], (*lines[-1], *line(" "), *facts)]
    below = wrap((*line(" " * _INDENT), *facts), terminal.columns - 1, indent=_INDENT)  # not torn apart
    return [*lines, *below]


def region(state: ListenState, terminal: Terminal, now_s: float, where: str) -> list[Line]:
    """The lines that change in place: what is being said, how each device is, and a last line for us.

    Args:
        state: what is known.
        terminal: its width, height and signs.
        now_s: monotonic, as given to the state.
        where: the broker's address.
    """
    signs, columns = glyphs(unicode=terminal.unicode), terminal.columns - 1
    last = clip_line(_last_line(state, terminal, now_s, where), columns, signs.ellipsis)
    # Two thirds at most: what is said for good is the matter; and a line above must be left to print on.
    room = min(terminal.rows * 2 // 3, terminal.rows - 2) - 2
    if room < 1:
        return [last]
    rule: Line = (Span(text=signs.rule * columns, style="dim"),)
    return [rule, *_devices(state, terminal, now_s, room), last]


def _devices(state: ListenState, terminal: Terminal, now_s: float, room: int) -> list[Line]:
    """The most recently active devices that fit, by name, and how many there are beside them."""
    if not state.devices:
        waiting = f"nothing heard yet below {state.prefix}/"
        return [(Span(text=clip(waiting, terminal.columns - 1, "..."), style="dim"),)]
    ranked = sorted(state.devices.values(), key=lambda one: (bool(one.partials), one.active_s), reverse=True)
    blocks: list[tuple[str, list[Line]]] = []
    for device in ranked:
        if len(blocks) >= room:
            break
        block = _block(device, terminal, now_s)
        left = room - sum(len(lines) for _, lines in blocks)
        reserved = 1 if len(blocks) + 1 < len(ranked) else 0
        if len(block) + reserved > left:
            if not blocks:
                blocks.append((device.name, block[: max(1, left - reserved)]))
            break
        blocks.append((device.name, block))
    shown = [one for _, block in sorted(blocks, key=lambda pair: pair[0]) for one in block]
    hidden = ranked[len(blocks) :]
    return [*shown, _rest(hidden, terminal)][:room] if hidden else shown


def _rest(hidden: Sequence[Device], terminal: Terminal) -> Line:
    counts: dict[str, int] = {}
    for device in hidden:
        counts[device.state or "unknown"] = counts.get(device.state or "unknown", 0) + 1
    told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items(), key=lambda one: -one[1]))
    signs = glyphs(unicode=terminal.unicode)
    text = f"{signs.ellipsis} and {len(hidden)} more: {told}"
    return (Span(text=clip(text, terminal.columns - 1, signs.ellipsis), style="dim"),)


def _block(device: Device, terminal: Terminal, now_s: float) -> list[Line]:
    """One device: its state, then a line or more for each channel that has something to show."""
    signs, columns = glyphs(unicode=terminal.unicode), terminal.columns - 1
    several = len(device.channels) > 1 or any(device.channels)
    state = device.state or "state unknown"
    head = line(
        Span(text=f"{_state_sign(device.state, signs)} ", style=_state_style(device.state)),
        Span(text=clip(device.name, max(8, columns // 3), signs.ellipsis), style="bold"),
        " ",
        Span(text=state, style=_state_style(device.state)),
    )
    first = device.levels.get(0)
    if first is not None and not several:
        head = (*head, *line("  "), *_level(first, terminal, now_s))
    lines = [clip_line(head, columns, signs.ellipsis)]
    if device.reasons:
        reasons = line(Span(text=f"  {', '.join(device.reasons)}", style=_state_style(device.state)))
        lines.append(clip_line(reasons, columns, signs.ellipsis))
    for channel in sorted({*device.partials, *(device.levels if several else ())}):
        lines += _channel(device, channel, terminal, now_s, several=several)
    return lines


def _channel(device: Device, channel: int, terminal: Terminal, now_s: float, *, several: bool) -> list[Line]:
    signs, columns = glyphs(unicode=terminal.unicode), terminal.columns - 1
    number = f"{channel} " if several else ""
    partial, gauge = device.partials.get(channel), device.levels.get(channel)
    lines: list[Line] = []
    if several and gauge is not None:
        lines.append(clip_line(line(f"  {number}", *_level(gauge, terminal, now_s)), columns, signs.ellipsis))
        number = " " * len(number)
    if partial is not None:
        lines += _growing(partial, f"  {number}{signs.speaking} ", terminal)
    return lines


def _growing(partial: Partial, lead: str, terminal: Terminal) -> list[Line]:
    """The partial's end, in up to three lines. Stable and tail differ by weight, else by brackets."""
    signs = glyphs(unicode=terminal.unicode)
    stable = partial.stable.rstrip()
    tail = partial.tail.strip()
    space = " " if stable and tail and (partial.tail[:1] == " " or partial.stable[-1:] == " ") else ""
    if tail and not terminal.colour:
        tail, space = f"[{tail}]", " " if stable else ""
    said = line(Span(text=stable, style="bold"), space, Span(text=tail, style="dim"))
    wrapped = wrap(said, terminal.columns - 1 - len(lead))
    cut = len(wrapped) > _PARTIAL_LINES
    lines: list[Line] = []
    for index, one in enumerate(wrapped[-_PARTIAL_LINES:]):
        first = f"{lead[:-1]}{signs.ellipsis[:1]}" if cut else lead
        lines.append(line(Span(text=first if index == 0 else " " * len(lead), style="good"), *one))
    return lines


def _level(gauge: Gauge, terminal: Terminal, now_s: float) -> Line:
    signs = glyphs(unicode=terminal.unicode)
    narrow = terminal.columns < _NARROW
    meter = level_meter(gauge.rms_dbfs, gauge.peak_dbfs, 8 if narrow else 16, signs)
    told = f" {round(gauge.rms_dbfs)} dBFS"
    if not narrow:
        told += f", peak {round(gauge.peak_dbfs)}"
    note = ""
    if gauge.peak_dbfs > _CLIPPED_DBFS:
        note = " clipped"
    elif gauge.rms_dbfs < _QUIET_DBFS:
        note = " quiet"
    age_s = now_s - gauge.at_s
    age = " (earlier)" if gauge.kept else f" ({_age(age_s)} ago)" if age_s >= _FRESH_LEVEL_S else ""
    brackets = ("[", "]") if not terminal.unicode else ("", "")
    return line(
        brackets[0],
        *meter,
        brackets[1],
        told,
        Span(text=note, style="warn"),
        Span(text=age, style="dim"),
    )


def _last_line(state: ListenState, terminal: Terminal, now_s: float, where: str) -> Line:
    signs = glyphs(unicode=terminal.unicode)
    dot = f" {signs.dot} "
    if state.lost is not None:
        away = f"{signs.bad} reconnecting to {where} for {_age(now_s - state.lost_at_s)}"
        return line(Span(text=away, style="bad"), Span(text=f": {state.lost}", style="dim"))
    count = len(state.devices)
    facts = [
        f"{count} device{'' if count == 1 else 's'}",
        f"{state.finals} final{'' if state.finals == 1 else 's'}",
        f"{state.gaps} gap{'' if state.gaps == 1 else 's'}",
    ]
    if state.repeated:
        facts.append(f"{state.repeated} repeated")
    connected = Span(text=f"{signs.good} {where}", style="good")
    rest = line(Span(text=dot + dot.join(facts), style="dim"))
    hint = line(Span(text=f"{dot}Ctrl-C ends", style="dim"))
    whole = (connected, *rest)
    return (*whole, *hint) if line_width((*whole, *hint)) < terminal.columns else whole


def _state_sign(state: str, signs: Glyphs) -> str:
    if state == "online":
        return signs.good
    return signs.bad if state in {"offline", "stopped"} else signs.warn if state else "?"


def _state_style(state: str) -> Style:
    return _STATE_STYLES.get(state, "bad" if state else "dim")


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def today() -> str:
    """The day that entries are compared with."""
    return datetime.now(UTC).date().isoformat()
