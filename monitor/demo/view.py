"""The live picture of the demo: one screen, from 80 columns by 24 lines upwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from detectors.anomaly import Explanation
from detectors.incidents import Alert, Decision, IncidentUpdate
from detectors.pack import SEVERITIES, Severity
from detectors.rules import Condition
from monitor.demo.board import Board
from monitor.styles import SEVERITY_STYLES

__all__ = [
    "clean",
    "clock_time",
    "contributions_text",
    "draw",
    "evidence_text",
    "why_text",
]

_ACTION_STYLES: Final = {"block": "bold red", "throttle": "yellow", "warn": "cyan"}
_QUIET: Final = "bright_black"
_SHOWN_CONTRIBUTIONS: Final = 4
_BARS: Final = "▁▂▃▄▅▆▇█"
_WIDE_COLUMNS: Final = 110
_MAX_SHOWN: Final = 120
_SIGNS: Final = {">=": "≥", "<=": "≤", "!=": "≠", "==": "="}


def draw(board: Board, now_s: float, width: int, height: int) -> RenderableType:
    """The whole screen, ``width`` by ``height`` characters."""
    screen = Layout()
    body = Layout(name="body")
    screen.split_column(
        Layout(_head(board, now_s, width), size=4),
        body,
        Layout(_foot(board, width), size=1),
    )
    body_lines = height - 5
    if width >= _WIDE_COLUMNS:
        rules = min(len(board.alerts_by_rule) + 2, max(5, body_lines // 3 + 2))
        others = (body_lines - rules) // 2
        aside = Layout(ratio=5)
        body.split_row(Layout(_alerts(board, body_lines), ratio=8), aside)
        aside.split_column(
            Layout(_rules(board, rules), size=rules),
            Layout(_incidents(board, body_lines - rules - others)),
            Layout(_decisions(board, others), size=others),
        )
        return screen
    below = min(9, body_lines // 2)
    row = Layout(size=below)
    body.split_column(Layout(_alerts(board, body_lines - below)), row)
    aside = Layout(ratio=1)
    half = below // 2
    aside.split_column(
        Layout(_incidents(board, below - half)), Layout(_decisions(board, half), size=half)
    )
    row.split_row(Layout(_rules(board, below), ratio=1), aside)
    return screen


def clean(text: str) -> str:
    """Text from outside, made safe for a terminal: no control characters, bounded."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 1] + "…"


def clock_time(time_ms: int) -> str:
    """``HH:MM:SS`` in UTC."""
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%H:%M:%S")


def evidence_text(evidence: Iterable[Condition]) -> Text:
    """What held, as value against threshold: the numbers, or all of it where there are none."""
    held: dict[tuple[str, str], Condition] = {}
    for condition in evidence:
        if condition.holds:
            held.setdefault((condition.column, condition.operator), condition)
    numbers = [one for one in held.values() if not isinstance(one.value, str | bool | None)]
    numbers.sort(key=lambda one: one.operator not in {">", ">="})
    text = Text()
    for condition in numbers or held.values():
        if text:
            text.append(" · ", _QUIET)
        sign = _SIGNS.get(condition.operator, condition.operator)
        text.append(f"{clean(condition.column)} ", "default")
        text.append(_shown(condition.value), "bold")
        text.append(f" {sign} {_shown(condition.threshold)}", _QUIET)
    return text


def why_text(alert: Alert) -> Text:
    """Why there is an alert: what made the anomaly score, or the conditions that held."""
    if alert.anomaly is not None:
        return contributions_text(alert.anomaly)
    return evidence_text(alert.evidence)


def contributions_text(explanation: Explanation) -> Text:
    """What made an anomaly score: the features that raised it most, and where they stand."""
    text = Text(f"score {explanation.score:.2f}", _QUIET)
    for one in explanation.contributions[:_SHOWN_CONTRIBUTIONS]:
        text.append(" · ", _QUIET)
        text.append(f"{clean(one.feature)} ", "default")
        text.append(_shown(one.value), "bold")
        text.append(f" above {one.percentile:.4g} % {one.contribution:+.2f}", _QUIET)
    return text


def _shown(value: float | str | bool | None) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, str):
        return clean(value)
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:,.3g}" if abs(value) < 1_000 else f"{value:,.0f}"


def _panel(title: str, body: RenderableType, note: str = "") -> Panel:
    return Panel(
        body,
        title=Text(title, "bold"),
        title_align="left",
        subtitle=Text(note, _QUIET) if note else None,
        subtitle_align="right",
        box=box.ROUNDED,
        border_style="blue",
        padding=(0, 1),
    )


def _line(*parts: tuple[str, str]) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for part, style in parts:
        text.append(part, style)
    return text


def _table(*columns: tuple[str, int | None]) -> Table:
    """A table without lines; a column without a width takes what is left."""
    table = Table.grid(padding=(0, 1), expand=True)
    for justify, width in columns:
        table.add_column(
            justify="right" if justify == "right" else "left",
            width=width,
            ratio=1 if width is None else None,
            no_wrap=True,
            overflow="ellipsis",
        )
    return table


def _head(board: Board, now_s: float, width: int) -> Panel:
    seconds = int(now_s - board.started_s)
    rate = board.rate.per_second(now_s)
    lag_style = "green" if board.lag_s < 0.5 else "yellow" if board.lag_s < 2 else "bold red"
    stream = _table(("left", None), ("right", None))
    stream.add_row(
        _line(
            (f"{rate:,.0f}", "bold green"),
            (" events/s  ", "default"),
            (_spark(board.rate.history(now_s, max(0, width // 2 - 22))), "green"),
        ),
        _line(
            ("event time ", _QUIET),
            (clock_time(board.event_time_ms) if board.event_time_ms else "--:--:--", "bold"),
            (f" ({board.speed:g}×)   ", _QUIET),
            ("lag ", _QUIET),
            (f"{1_000 * board.lag_s:,.0f} ms", lag_style),
        ),
    )
    counts = _line(
        (f"{board.events:,}", "bold"),
        (" events  ", _QUIET),
        (f"{board.alerts:,}", "bold yellow"),
        (" alerts  ", _QUIET),
        (f"{board.incidents:,}", "bold red"),
        (" incidents  ", _QUIET),
        (f"{board.decisions:,}", "bold"),
        (" decisions  ", _QUIET),
        (f"{board.dead_letters:,}", "bold" if board.dead_letters else _QUIET),
        (" dead letters  ", _QUIET),
        (f"{board.late:,}", "bold" if board.late else _QUIET),
        (" late", _QUIET),
    )
    title = Text.assemble((" Floodwatch ", "bold white on blue"), (" live demo", "bold"))
    return Panel(
        Group(stream, counts),
        title=title,
        title_align="left",
        subtitle=Text(f"pack {clean(board.pack)} · {seconds // 60}:{seconds % 60:02}", _QUIET),
        subtitle_align="right",
        box=box.ROUNDED,
        border_style="blue",
        padding=(0, 1),
    )


def _foot(board: Board, width: int) -> Text:
    parts = [
        (" metrics ", _QUIET),
        (f"{board.metrics_address}/metrics", "cyan"),
        ("  results ", _QUIET),
        (clean(board.results), "cyan"),
    ]
    if width >= _WIDE_COLUMNS:
        parts.append(("  Ctrl-C ends the demo", _QUIET))
    else:
        parts.append(("  Ctrl-C ends", _QUIET))
    return _line(*parts)


def _spark(counts: Sequence[int]) -> str:
    most = max(counts, default=0)
    if not most:
        return ""
    # A steady stream is three quarters high: there is room above it for a burst to show.
    return "".join(_BARS[count * 6 // most] for count in counts)


def _alerts(board: Board, lines: int) -> Panel:
    """Two lines for each alert: what it is about, and under it the evidence."""
    shown: list[Text] = []
    for alert in list(board.newest_alerts)[: (lines - 2) // 2]:
        evidence = _line((" " * 9, ""))
        shown += [_alert_head(alert), evidence.append_text(why_text(alert))]
    if not shown:
        shown = [Text("nothing yet: attacks begin within seconds", _QUIET)]
    return _panel("newest alerts", Group(*shown), f"{board.alerts:,} in all")


def _alert_head(alert: Alert) -> Text:
    return _line(
        (clock_time(alert.time_ms), _QUIET),
        (" ", ""),
        (alert.severity, SEVERITY_STYLES[alert.severity]),
        (" " * (9 - len(alert.severity)), ""),
        (clean(alert.key), "magenta"),
        ("  ", ""),
        (clean(alert.title), "bold"),
        (" (shadow)" if alert.mode == "shadow" else "", _QUIET),
        (f" #{alert.sequence}" if alert.sequence > 1 else "", _QUIET),
    )


def _severity(severity: Severity) -> Text:
    return Text(severity, SEVERITY_STYLES[severity])


def _rules(board: Board, lines: int) -> Panel:
    table = _table(("right", 5), ("left", 6), ("left", None))
    ranked = board.alerts_by_rule.most_common(lines - 2)
    most = ranked[0][1] if ranked else 0
    for rule_id, count in ranked:
        style = SEVERITY_STYLES[board.severity_by_rule[rule_id]].replace(" on red", "")
        bar = "▆" * max(1, 6 * count // most)
        table.add_row(
            Text(f"{count:,}", "bold"),
            Text(bar, style.replace("white", "red")),
            Text(clean(rule_id)),
        )
    note = f"planted attacks seen: {len(board.seen)} of {len(board.begun)}" if board.begun else ""
    return _panel("top rules", table, note)


def _incidents(board: Board, lines: int) -> Panel:
    table = _table(("left", 8), ("left", None))
    newest_first = reversed(board.open_incidents.values())
    worst = sorted(newest_first, key=lambda incident: -SEVERITIES.index(incident.severity))
    for incident in worst[: lines - 2]:
        table.add_row(_severity(incident.severity), _incident_line(incident))
    return _panel(f"open incidents: {len(board.open_incidents):,}", table)


def _incident_line(incident: IncidentUpdate) -> Text:
    return _line((clean(incident.key), "magenta"), (f" {clean(incident.rule_id)}", "default"))


def _decisions(board: Board, lines: int) -> Panel:
    table = _table(("left", 8), ("left", None))
    for decision in list(board.newest_decisions)[: lines - 2]:
        table.add_row(
            Text(decision.kind, _ACTION_STYLES.get(decision.kind, "")), _decision_line(decision)
        )
    return _panel(f"latest decisions: {board.decisions:,}", table)


def _decision_line(decision: Decision) -> Text:
    return _line(
        (clean(decision.user_id), "magenta"),
        (f" {clean(decision.scope)} {_duration(decision.expires_ms - decision.time_ms)} ", ""),
        (clean(decision.reason), _QUIET),
    )


def _duration(length_ms: int) -> str:
    minutes = length_ms / 60_000
    return f"{minutes / 60:.3g} h" if minutes >= 60 else f"{minutes:.3g} min"
