"""The tables that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from bench.contenders import Contender
from bench.forest import BATCHES, PEERS
from bench.forest import OURS as OUR_FOREST
from bench.summary import OURS, Spread, ratios
from bench.task import Measurement

__all__ = ["print_alone", "print_contenders", "print_forest"]


def print_contenders(
    console: Console,
    contenders: Sequence[Contender],
    results: Mapping[str, Sequence[Measurement]],
) -> None:
    """Print the contenders side by side; spreads are least to greatest over the rounds."""
    table = _table("events/s on one core", "median", "spread", "by CPU", "we are")
    factors = ratios(results)
    for contender in contenders:
        measurements = results[contender.name]
        rates = Spread.of([measurement.events_per_s for measurement in measurements])
        by_cpu = Spread.of([measurement.events_per_cpu_s for measurement in measurements])
        times = factors[contender.name].by_clock if contender.name in factors else None
        table.add_row(
            contender.label,
            f"{rates.median:,.0f}",
            f"{rates.low:,.0f}-{rates.high:,.0f}",
            f"{by_cpu.median:,.0f}",
            f"{times.median:.1f}x ({times.low:.1f}-{times.high:.1f})" if times else "",
            style="bold" if contender.name == OURS else None,
        )
    console.print(table)


def print_alone(console: Console, spreads: Mapping[str, Spread]) -> None:
    """Print the figures that have no peer."""
    table = _table("by itself, on one core", "median", "spread")
    for name, spread in spreads.items():
        table.add_row(name, f"{spread.median:,.0f}", f"{spread.low:,.0f}-{spread.high:,.0f}")
    console.print(table)


def print_forest(console: Console, figures: Mapping[str, Any]) -> None:
    """Print rows scored per second, by the size of the batch."""
    headings = [heading for name in PEERS.values() for heading in (name, "we are")]
    table = _table("rows/s on one core, batches of", "Floodwatch", *headings)
    for batch in BATCHES:
        cells = [f"{batch:,}", f"{figures[f'forest_{OUR_FOREST}_rows_per_s_{batch}']:,}"]
        for name in PEERS:
            cells.append(f"{figures[f'forest_{name}_rows_per_s_{batch}']:,}")
            cells.append(f"{figures[f'forest_ratio_to_{name}_{batch}']:,}x")
        table.add_row(*cells)
    console.print(table)


def _table(title: str, *headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(title)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
