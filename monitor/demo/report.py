"""What the demo says when it ends."""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from monitor.demo.board import Board
from monitor.demo.view import clean
from monitor.sinks.ndjson import FILES
from monitor.styles import SEVERITY_STYLES

__all__ = ["print_report"]


def print_report(
    console: Console, board: Board, *, out: Path, store_url: str, elapsed_s: float
) -> None:
    """Rules, planted attacks, where the results lie; the last line is plain and counts."""
    console.print()
    if board.alerts:
        console.print(_rules(board))
    _say(console, f"{board.events / max(elapsed_s, 1e-9):,.0f} events/s over {elapsed_s:,.0f} s.")
    if board.slipped_s > 0:
        _say(console, f"Simulated time was held back by {board.slipped_s:,.1f} s to keep up.")
    if board.begun:
        unseen = ", ".join(board.unseen_kinds)
        _say(
            console,
            f"Planted attacks begun: {len(board.begun)}, with alerts: {len(board.seen)}"
            + (f"; kinds without one so far: {unseen}." if unseen else "."),
        )
        _say(console, f"Alerts at events of honest users: {board.honest_alerts} of {board.alerts}.")
    _say(console, f"Results in {out}: {', '.join(FILES.values())}; store {store_url}")
    if board.incidents:
        look = f"floodwatch incidents show latest --store {store_url}"
        _say(console, f"Why an incident fired: {look} (or: list)")
    _say(console, board.final_line)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _rules(board: Board) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("alerts", justify="right", no_wrap=True)
    table.add_column("severity", no_wrap=True)
    table.add_column("rule")
    for rule_id, count in board.alerts_by_rule.most_common():
        severity = board.severity_by_rule[rule_id]
        table.add_row(
            f"{count:,}",
            Text(severity, SEVERITY_STYLES[severity]),
            Text(clean(board.title_by_rule[rule_id])),
        )
    return table
