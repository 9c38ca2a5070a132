"""`outbox status` for a terminal or for a pipe. Pure."""

from __future__ import annotations

from edge_agent.health.checks import CheckResult, outbox
from edge_agent.outbox.rows import OutboxStats
from edge_agent.screen.glyphs import bar, glyphs
from edge_agent.screen.safe import safe
from edge_agent.screen.spans import Line, Span, Style, clip_line, line, wrap
from edge_agent.screen.terminal import Terminal
from edge_agent.types import Value
from edge_agent.verbs.health_view import sign

_NEARLY_FULL = 0.9
_BAR_CELLS = 24
_HOUR_S = 3600.0


class Limits(Value, frozen=True):
    """What the configuration allows."""

    quota_mb: float
    keep_delivered_h: float


def plain(stats: OutboxStats, path: str) -> list[str]:
    """The form that scripts know."""
    age = f", the oldest for {span(stats.oldest_queued_age_s)}" if stats.queued else ""
    lines = [
        f"{path} ({stats.size_bytes / 1e6:.1f} MB)",
        f"waiting    {stats.queued}{age}",
        f"delivered  {stats.delivered} kept for replay",
        f"last seq   {stats.last_seq}",
    ]
    return lines + [f"{name:<10} {text}" for name, text in _trouble(stats)]


def pretty(stats: OutboxStats, path: str, gaps: int, limits: Limits | None, terminal: Terminal) -> list[Line]:
    """The verdict, then the figures, with bars for how full it is and how long the oldest waits.

    Args:
        stats: how it stands.
        path: of the file.
        gaps: among what is kept.
        limits: None where the configuration cannot be read.
        terminal: its width and signs.
    """
    signs, columns = glyphs(unicode=terminal.unicode), terminal.columns - 1
    result = verdict(stats, limits)
    styles: dict[str, Style] = {"ok": "good", "warn": "warn", "fail": "bad"}
    said = f"{sign(result.status, signs)} {result.detail}"
    lines = wrap(line(Span(text=said, style=styles[result.status])), columns)
    if result.remedy:
        lines += wrap(line("  ", Span(text=f"{signs.arrow} {result.remedy}", style="who")), columns, indent=4)
    lines.append(())
    cells = min(_BAR_CELLS, max(5, columns - 45))
    keeps = f", for {limits.keep_delivered_h:g} h" if limits else ""
    rows: list[tuple[str, Line]] = [
        ("waiting", line(str(stats.queued))),
        ("oldest", _age(stats, cells, terminal)),
        ("size", _size(stats, limits, cells, terminal)),
        ("delivered", line(f"{stats.delivered} kept for replay{keeps}")),
        ("gaps", line(f"{gaps} among what is kept")),
        ("next seq", line(str(stats.last_seq + 1))),
        *((name, line(Span(text=text, style="warn"))) for name, text in _trouble(stats)),
        ("file", line(Span(text=safe(path, charset=terminal.charset), style="dim"))),
    ]
    for name, value in rows:
        row = (*line(Span(text=f"  {name:<10} ", style="bold")), *value)
        lines.append(clip_line(row, columns, signs.ellipsis) if name in {"oldest", "size"} else row)
    return [one for row in lines for one in wrap(row, columns, indent=13)]


def verdict(stats: OutboxStats, limits: Limits | None) -> CheckResult:
    """As `health` judges it, and whether it is nearly full."""
    found = outbox(stats.queued, stats.oldest_queued_age_s, "ok")
    if found.status != "ok" or limits is None:
        return found
    if stats.queued and stats.size_bytes > _NEARLY_FULL * limits.quota_mb * 1024 * 1024:
        return CheckResult(
            name="outbox",
            status="warn",
            detail=f"{found.detail}, nearly full",
            remedy="bring the broker back, or raise outbox.quota_mb: what is oldest will be given up",
        )
    return CheckResult(
        name="outbox", status="ok", detail="nothing waits" if not stats.queued else found.detail
    )


def _trouble(stats: OutboxStats) -> list[tuple[str, str]]:
    found = []
    if stats.set_aside:
        found.append(("set aside", f"{stats.set_aside} that the broker cannot take"))
    if stats.dropped_over_quota:
        found.append(("dropped", f"{stats.dropped_over_quota} over the quota"))
    return found


def _age(stats: OutboxStats, cells: int, terminal: Terminal) -> Line:
    """Against an hour: a broker that is away for longer is no hiccup."""
    if not stats.queued:
        return line(Span(text="none", style="dim"))
    age_s = stats.oldest_queued_age_s
    style: Style = "good" if age_s <= 60 else "warn"
    signs = glyphs(unicode=terminal.unicode)
    brackets = ("", "") if terminal.unicode else ("[", "]")
    meter = bar(age_s / _HOUR_S, cells, style, signs)
    return line(brackets[0], *meter, brackets[1], f" {span(age_s)}", Span(text=" (bar: 1 h)", style="dim"))


def _size(stats: OutboxStats, limits: Limits | None, cells: int, terminal: Terminal) -> Line:
    used_mb = stats.size_bytes / 1024 / 1024
    if limits is None:
        return line(
            f"{used_mb:.1f} MB", Span(text=" (the quota is unknown: see edge-agent health)", style="dim")
        )
    share = used_mb / max(limits.quota_mb, 1e-9)
    style: Style = "good" if share <= _NEARLY_FULL else "warn"
    brackets = ("", "") if terminal.unicode else ("[", "]")
    meter = bar(share, cells, style, glyphs(unicode=terminal.unicode))
    return line(brackets[0], *meter, brackets[1], f" {used_mb:.1f} of {limits.quota_mb:g} MB")


def span(seconds: float) -> str:
    """A length of time in one unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
