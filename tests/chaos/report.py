"""What a person sees: a line of progress while it runs, and a table at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tests.chaos.figures import RESUME_WITHIN_S, ZEROS
from tests.chaos.section import Progress

__all__ = ["Reporter", "print_figures"]

_FRAME_S: Final = 0.25
_LINE_S: Final = 10.0


class Reporter:
    """Tells how far a run has come: one line that changes, or lines where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._started_s = time.monotonic()
        self._next_s = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """While in the context there is a line of progress."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(f"[dim]{self._clock()}[/] {text}", highlight=False, soft_wrap=True)
        self._next_s = 0.0

    def step(self, text: str) -> None:
        """What is being done now."""
        self._show(Text(text), always=True)

    def progress(self, progress: Progress) -> None:
        """How far a section is."""
        line = Text.assemble(
            (progress.section, "bold"),
            f"  round {min(progress.done + 1, progress.rounds)}/{progress.rounds}",
            f"  {progress.sent:,} events",
            f"  {progress.kills} kills, {progress.zombies} zombies,",
            f" {progress.rebalances} rebalances  ",
            (progress.doing, "italic"),
        )
        self._show(line)

    def _show(self, line: Text, *, always: bool = False) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s and not always:
            return
        self._next_s = now_s + (_LINE_S if self._live is None else _FRAME_S)
        line = Text.assemble((self._clock(), "dim"), " ", line)
        if self._live is None:
            self._console.print(line, soft_wrap=True, highlight=False)
        else:
            line.truncate(self._console.width - 1, overflow="ellipsis")
            self._live.update(line, refresh=True)

    def _clock(self) -> str:
        elapsed_s = int(time.monotonic() - self._started_s)
        return f"{elapsed_s // 60:2d}:{elapsed_s % 60:02d}"


def print_figures(console: Console, figures: Mapping[str, Any], failed: Sequence[str]) -> None:
    """The table, and below it what is wrong."""
    table = Table(box=box.SIMPLE_HEAD, title="Nothing is lost", title_justify="left")
    table.add_column("", no_wrap=True)
    for heading in ("simulation", "real broker", "stock Faust Table"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, *keys in _ROWS:
        values = [_cell(figures, key) for key in keys]
        if any(values):
            table.add_row(label, *values)
    console.print(table)
    resumed: Mapping[str, Sequence[float]] = figures.get("broker_resume_s", {})
    if resumed:
        console.print(_resume_table(resumed))
    for sentence in failed:
        console.print(f"[bold red]FAILED[/] {sentence}", highlight=False)
    if not failed:
        console.print("[bold green]Nothing was lost.[/]")


_ROWS: Final = (
    ("events", "sim_events", "broker_events", "control_events"),
    ("seeds", "sim_seeds", "", ""),
    ("crash points | kills", "sim_crash_points", "broker_kills", "control_kills"),
    ("  at each failpoint, at least", "", "broker_kills_per_failpoint", ""),
    ("rebalances", "sim_rebalances", "broker_rebalances", ""),
    ("zombies", "sim_pauses", "broker_zombies", ""),
    ("broker restarts", "", "broker_restarts", ""),
    ("events lost", "sim_events_lost", "broker_events_lost", "control_events_lost"),
    ("events doubled", "", "broker_events_doubled", "control_events_doubled"),
    ("final states that differ", "sim_state_mismatches", "broker_state_mismatches", ""),
    ("alerts", "", "broker_alerts", ""),
    ("alerts missing", "sim_missing_alerts", "broker_missing_alerts", ""),
    ("alerts wrong or contradictory", "sim_differing_alerts", "broker_wrong_alerts", ""),
    ("duplicate alerts, raw", "", "broker_duplicate_alerts_raw", ""),
    ("not once in the store", "", "broker_not_once_in_store", ""),
    ("ended by themselves", "", "broker_workers_ended_by_themselves", ""),
    ("events wrong in all", "", "", "control_events_wrong"),
)


def _cell(figures: Mapping[str, Any], key: str) -> str:
    if not key or key not in figures:
        return ""
    text = f"{figures[key]:,}"
    if key in ZEROS:
        return f"[bold {'red' if figures[key] else 'green'}]{text}[/]"
    return text


def _resume_table(resumed: Mapping[str, Sequence[float]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("seconds until every partition moved on")
    for heading in ("times", "median", "longest"):
        table.add_column(heading, justify="right")
    for name, taken in sorted(resumed.items()):
        longest = max(taken)
        promised = name.startswith(("restarted", "taken over"))
        style = "red" if promised and longest > RESUME_WITHIN_S else None
        median = sorted(taken)[len(taken) // 2]
        table.add_row(name, str(len(taken)), f"{median:.1f}", f"{longest:.1f}", style=style)
    return table
