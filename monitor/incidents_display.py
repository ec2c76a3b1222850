"""What ``floodwatch incidents list`` prints, and the pieces that ``show`` is made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from monitor.dlq_record import printable
from monitor.styles import SEVERITY_STYLES

if TYPE_CHECKING:
    from rich.console import Console

    from monitor.store.reading import IncidentPage, Record

__all__ = [
    "QUIET",
    "STATE_STYLES",
    "ago_text",
    "number_text",
    "print_page",
    "short_id",
    "state_of",
    "time_text",
]

QUIET: Final = "bright_black"
STATE_STYLES: Final = {"open": "bold", "closed": QUIET, "snoozed": "magenta"}

_NARROW_COLUMNS: Final = 80
_SHORT_ID: Final = 8
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def print_page(console: Console, page: IncidentPage, *, now_ms: int) -> None:
    """The incidents in a table; on a narrow terminal each in two lines."""
    if page.incidents:
        if console.width < _NARROW_COLUMNS:
            for record in page.incidents:
                _print_narrow(console, record, now_ms)
        else:
            console.print(_table(page, now_ms))
    shown = len(page.incidents)
    counted = f"{page.total:,} incidents" if page.total != 1 else "1 incident"
    line = counted if shown == page.total else f"{counted}, the newest {shown:,} shown (--limit)"
    if page.snoozed:
        line += f"; {page.snoozed:,} snoozed and left out"
    console.print(Text(line, QUIET), soft_wrap=True)


def short_id(incident_id: str) -> str:
    """Enough of an id to tell incidents apart and to type."""
    return incident_id.removeprefix("inc_")[:_SHORT_ID]


def state_of(record: Record) -> str:
    """``open``, ``closed``, or ``snoozed`` (open, but waking nobody)."""
    if record["state"] == "closed":
        return "closed"
    return "snoozed" if record.get("snoozed_until_ms") else "open"


def time_text(time_ms: int) -> str:
    """A moment in UTC, ``2026-03-02 09:53:40``."""
    return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def ago_text(time_ms: int, now_ms: int) -> str:
    """``12 min ago``, ``in 2 h``: the largest unit that fits."""
    distance_s = abs(now_ms - time_ms) // 1_000
    unit, size = next(((u, s) for u, s in _UNITS if distance_s >= s), ("s", 1))
    amount = f"{distance_s // size:,} {unit}"
    return f"{amount} ago" if now_ms >= time_ms else f"in {amount}"


def number_text(value: Any) -> str:  # noqa: ANN401 - what a column can hold
    """A value of a column for people: three digits, separators, texts made safe."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, str):
        return printable(value)
    if float(value).is_integer():
        return f"{value:,.0f}"
    if 0.99 < value < 1:  # a rank, a share: what is missing to 1 matters
        return f"{value:.5g}"
    return f"{value:,.3g}" if abs(value) < 1_000 else f"{value:,.0f}"


def _remarks(record: Record) -> Text:
    """Who is on it, and what was decided about it."""
    parts = []
    if record["mode"] == "shadow":
        parts.append(("shadow", QUIET))
    if record["acknowledged_by"]:
        parts.append((printable(record["acknowledged_by"]), "green"))
    if record["verdict"]:
        parts.append((record["verdict"], "bold"))
    text = Text()
    for part, style in parts:
        text.append(" · " if text else "", QUIET)
        text.append(part, style)
    return text


def _table(page: IncidentPage, now_ms: int) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column("incident", no_wrap=True, style="cyan")
    table.add_column("severity", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("newest", no_wrap=True, justify="right")
    table.add_column("alerts", no_wrap=True, justify="right")
    table.add_column("what, who", ratio=1, overflow="ellipsis", no_wrap=True)
    table.add_column("", no_wrap=True, justify="right")
    names = ("incident", "severity", "state", "newest", "alerts", "what, who", "")
    table.add_row(*(Text(name, QUIET) for name in names))
    for record in page.incidents:
        state = state_of(record)
        what = Text(printable(record["title"]))
        what.append(f"  {printable(record['key'])}", QUIET)
        table.add_row(
            short_id(record["incident_id"]),
            Text(record["severity"], SEVERITY_STYLES[record["severity"]]),
            Text(state, STATE_STYLES[state]),
            Text(ago_text(record["last_finding_ms"], now_ms)),
            f"{record['alerts']:,}",
            what,
            _remarks(record),
        )
    return table


def _print_narrow(console: Console, record: Record, now_ms: int) -> None:
    state = state_of(record)
    first = Text.assemble(
        (short_id(record["incident_id"]), "cyan"),
        " ",
        (record["severity"], SEVERITY_STYLES[record["severity"]]),
        " ",
        (state, STATE_STYLES[state]),
        " ",
        (ago_text(record["last_finding_ms"], now_ms), QUIET),
    )
    remarks = _remarks(record)
    if remarks:
        first.append(" ").append_text(remarks)
    second = Text.assemble("  ", printable(record["title"]), " ", (printable(record["key"]), QUIET))
    console.print(first, overflow="ellipsis", no_wrap=True)
    console.print(second, overflow="ellipsis", no_wrap=True)
