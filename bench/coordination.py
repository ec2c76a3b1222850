"""Speed of the exact search for coordination, beside a join in Polars, on one core.

``python -m bench.coordination ROUNDS FILE`` is the process that measures; it prints the figures as
JSON. Time is processor time, of everything between a frame of texts in memory and the edges.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import polars as pl

from bench.alone import figures_of
from bench.errors import BenchError
from bench.process import REPOSITORY
from bench.summary import Spread
from detectors.coordination import CoordinationSearch, CoordinationSettings
from monitor.analysis.coordination import CoordinationColumns, read_actions
from monitor.analysis.tables import Table, read_table

__all__ = ["measure", "measure_coordination"]

_FILE: Final = "russian_coord_tweets.parquet"
_COPIES: Final = 30
_COLUMNS: Final = CoordinationColumns("object_id", "account_id", "content_id", "timestamp_share")
_SETTINGS: Final = CoordinationSettings(window_ms=60_000, min_participation=2)


def measure_coordination(rounds: int, core: int, say: Callable[[str], None]) -> dict[str, object]:
    """The part of ``build/bench.json`` about coordination. Raises BenchError.

    Seconds are medians; ``coordination`` has the spreads. Nothing where the data is not there.
    """
    folder = os.environ.get("FLOODWATCH_DATA", str(REPOSITORY.parent / "shared" / "data"))
    path = Path(folder) / _FILE
    if not path.is_file():
        say(f"coordination: not measured, there is no {path}; set FLOODWATCH_DATA")
        return {}
    taken: dict[str, list[float]] = figures_of(("bench.coordination", str(rounds), str(path)), core)
    peers = zip(taken["join_s"], taken["one_copy_s"], strict=True)
    taken["ratio_to_join"] = [other / own for other, own in peers]
    spreads = {name: Spread.of(values) for name, values in taken.items()}
    figures: dict[str, object] = {
        f"coordination_{name}": round(spread.median, 4) for name, spread in spreads.items()
    }
    say(
        f"coordination: {spreads['all_copies_s'].median:.2f} s for {_COPIES} copies of {_FILE}, and"
        f" {spreads['chances_s'].median:.2f} s for what chance explains; one copy is"
        f" {spreads['ratio_to_join'].median:.0f}x as fast as a join in Polars"
    )
    return {
        **figures,
        "coordination": {
            name: {"low": round(spread.low, 4), "high": round(spread.high, 4)}
            for name, spread in spreads.items()
        },
    }


def measure(rounds: int, path: Path) -> dict[str, list[float]]:
    """Seconds of processor time for each round, after one that compiles."""
    one = read_table(path)
    name = _COLUMNS.object
    copies = [one.frame.with_columns(pl.col(name) + f"-{copy}") for copy in range(_COPIES)]
    all_copies = Table(path, pl.concat(copies).rechunk())
    if _search(one).edges().weight.sum() != _join(one.frame)["len"].sum():
        raise BenchError("the search and the join should find as many pairs")
    taken: dict[str, list[float]] = {
        name: [] for name in ("all_copies_s", "chances_s", "one_copy_s", "join_s")
    }
    for number in range(rounds + 1):
        search = _search(all_copies)
        edges = search.edges()
        works: tuple[Callable[[], object], ...] = (
            lambda: _search(all_copies).edges(),
            partial(search.chances, edges),
            lambda: _search(one).edges(),
            lambda: _join(one.frame),
        )
        for values, work in zip(taken.values(), works, strict=True):
            start_s = time.process_time()
            work()
            if number:
                values.append(time.process_time() - start_s)
    return taken


def _search(table: Table) -> CoordinationSearch:
    return CoordinationSearch(read_actions(table, _COLUMNS)[0], _SETTINGS)


def _join(frame: pl.DataFrame) -> pl.DataFrame:
    """The edges and their weights, as anybody would write it: a join of the table with itself."""
    least = _SETTINGS.min_participation
    rows = frame.with_row_index("row").filter(pl.len().over("account_id") >= least)
    apart_s = pl.col("timestamp_share") - pl.col("timestamp_share_y")
    pairs = rows.join(rows, on="object_id", suffix="_y").filter(
        pl.col("row") < pl.col("row_y"),
        apart_s.abs() * 1_000 <= _SETTINGS.window_ms,
        pl.col("account_id") != pl.col("account_id_y"),
        pl.col("content_id") != pl.col("content_id_y"),
    )
    contents = pl.concat([pairs["content_id"], pairs["content_id_y"]]).unique()
    matched = rows.filter(pl.col("content_id").is_in(contents.implode()))
    active = matched.filter(pl.len().over("account_id") >= least)["content_id"].implode()
    sides = pl.concat_list("account_id", "account_id_y").list.sort()
    return (
        pairs.filter(pl.col("content_id").is_in(active) | pl.col("content_id_y").is_in(active))
        .group_by(sides.alias("accounts"))
        .len()
    )


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), Path(sys.argv[2]))))
