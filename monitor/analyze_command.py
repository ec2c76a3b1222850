"""``floodwatch analyze``: scores for the rows of any table, and who acts together in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from detectors.coordination import CoordinationSettings
from detectors.series import SeriesKind, Side
from monitor.analysis import AnalysisError
from monitor.analysis.coordination import FALSE_DISCOVERIES, CoordinationColumns
from monitor.analysis.coordination_files import coordination_files
from monitor.analysis.outliers import OUTLIER_COLUMNS, analyze_outliers
from monitor.analysis.tables import check_output, read_table
from monitor.analysis.volume import analyze_volume
from monitor.failures import stop_on

if TYPE_CHECKING:
    from monitor.analysis.coordination import Coordination
    from monitor.analysis.outliers import OutlierAnalysis, Reason
    from monitor.analysis.volume import VolumeAnalysis

__all__ = ["app"]

app = typer.Typer(help="Of any table: unusual rows, unusual times, who acts together.")

_TOP_ROWS: Final = 10
_REASONS: Final = 3
_TELLING: Final = 0.5
_RARE: Final = 0.99

InputOption = Annotated[Path, typer.Option("--input", help="The table: .csv, .parquet, .ndjson.")]
OutOption = Annotated[
    Path, typer.Option(help="The same rows with scores, in the format of its ending.")
]


@app.command()
def outliers(
    source: InputOption,
    out: OutOption,
    columns: Annotated[
        str, typer.Option(help="Columns to compare by: a,b,c. [default: all with numbers]")
    ] = "",
    seed: Annotated[int, typer.Option(help="The same seed gives the same scores.", min=0)] = 0,
    trees: Annotated[int, typer.Option(help="Trees of the forest.", min=1, max=10_000)] = 200,
) -> None:
    """Find the rows that are unlike the others, by an isolation forest.

    Adds anomaly_score (0 to 1, high is unusual) and anomaly_rank (share of rows that score lower).
    """
    with stop_on(AnalysisError):
        check_output(out, source)
        table = read_table(source)
        asked = [name for name in (part.strip() for part in columns.split(",")) if name]
        found = analyze_outliers(table, asked, seed=seed, trees=trees)
        table.write_with(found.columns, out)
    console = Console()
    for note in found.notes:
        console.print(f"note: {note}", style="yellow", markup=False, highlight=False)
    console.print(_outlier_table(found))
    _say(console, f"{len(found.score):,} rows by {len(found.forest.features)} columns in {out}")


@app.command()
def volume(
    source: InputOption,
    time: Annotated[str, typer.Option(help="Column with times: ISO 8601, or since 1970.")],
    value: Annotated[str, typer.Option(help="Column with the count or measure at that time.")],
    out: OutOption,
    kind: Annotated[SeriesKind, typer.Option(help="What the values are.")] = "auto",
    side: Annotated[Side, typer.Option(help="What is unusual: too high, too low.")] = "both",
) -> None:
    """Find the times at which a series was unusual, each judged by what came before it.

    Adds expected and anomaly_score (0 to 1). A score of 0.5 is once in 1,000 rows by chance, 0.99
    once in 100,000. The first rows have 0: there is nothing to compare them with.
    """
    with stop_on(AnalysisError):
        check_output(out, source)
        table = read_table(source)
        found = analyze_volume(table, time, value, kind=kind, side=side)
        table.write_with(found.columns, out)
    console = Console()
    if found.backward_rows:
        console.print(
            f"note: {found.backward_rows:,} rows have a time before an earlier row;"
            " they count as at the same time",
            style="yellow",
            highlight=False,
        )
    console.print(_volume_table(found))
    score = found.scores.score
    _say(
        console,
        f"{len(score):,} rows in {out}: {int((score >= _TELLING).sum()):,} with a score of"
        f" {_TELLING} or more, {int((score >= _RARE).sum()):,} of {_RARE} or more",
    )


@app.command()
def coordination(  # noqa: PLR0913, PLR0917 - the parameters are the command's options
    source: InputOption,
    object_column: Annotated[
        str, typer.Option("--object", help="Column with what was acted on: an asset, a URL.")
    ],
    account: Annotated[str, typer.Option(help="Column with who acted.")],
    content: Annotated[str, typer.Option(help="Column with the id of the act: a post, an event.")],
    time: Annotated[str, typer.Option(help="Column with times: ISO 8601, or since 1970.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; made if need be.")],
    window: Annotated[float, typer.Option(help="Seconds that are together.", min=0)] = 60.0,
    min_participation: Annotated[
        int, typer.Option(help="Leave out accounts with fewer acts, at all or together.", min=1)
    ] = 2,
    edge_weight: Annotated[
        float | None,
        typer.Option(help="Keep edges above this quantile of weights.", min=0, max=1),
    ] = None,
    *,
    significant: Annotated[
        bool, typer.Option("--significant", help="Keep edges that chance does not explain.")
    ] = False,
    most_pairs: Annotated[
        int, typer.Option(help="Beyond so many pairs, leave out the objects with most.", min=1)
    ] = 10_000_000,
) -> None:
    """Find accounts that act on the same objects at nearly the same times.

    Pairs and edges are those of CooRTweet. Each edge has the number of shared objects that chance
    would explain, p and q. The words are "at the same times", not "in bad faith".
    """
    with stop_on(AnalysisError):
        found = coordination_files(
            read_table(source),
            CoordinationColumns(object_column, account, content, time),
            CoordinationSettings(
                window_ms=round(window * 1_000),
                min_participation=min_participation,
                most_pairs=most_pairs,
            ),
            out,
            edge_weight=edge_weight,
            significant=significant,
        )
    console = Console()
    for note in _coordination_notes(found):
        console.print(f"note: {note}", style="yellow", markup=False, highlight=False)
    if len(found.edges):
        console.print(_edge_table(found))
    sure = int((found.chances.q <= FALSE_DISCOVERIES).sum())
    _say(
        console,
        f"{found.pairs:,} pairs, {len(found.edges):,} edges ({sure:,} significant),"
        f" {int(found.kept.sum()):,} kept, {len(found.groups):,} groups, in {out}",
    )


def _coordination_notes(found: Coordination) -> list[str]:
    notes = []
    if len(found.search.left_out):
        notes.append(
            f"{len(found.search.left_out):,} objects have too many pairs and are left out;"
            " see summary.json, --most-pairs"
        )
    if found.chances.bounded:
        notes.append("too many accounts share objects to count them: q is an upper bound")
    return notes


def _edge_table(found: Coordination) -> Table:
    """The edges that chance explains least."""
    numbers = [Column(name, justify="right") for name in ("objects", "expected", "q")]
    table = Table("account", "account", *numbers)
    for a, b, objects, expected, q in (
        found.edge_table()
        .head(_TOP_ROWS)
        .select("account_id", "account_id_y", "objects", "expected", "q")
        .iter_rows()
    ):
        table.add_row(escape(a), escape(b), f"{objects:,}", f"{expected:.3g}", f"{q:.2g}")
    return table


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _outlier_table(found: OutlierAnalysis) -> Table:
    table = Table(Column("row", justify="right"), OUTLIER_COLUMNS[0], "because of")
    for row in found.top(_TOP_ROWS):
        reasons = "; ".join(map(_reason_text, found.reasons(row, _REASONS)))
        table.add_row(f"{row + 1:,}", f"{found.score[row]:.3f}", escape(reasons))
    return table


def _reason_text(reason: Reason) -> str:
    place = f"above {reason.less:.1%}" if reason.less >= reason.more else f"below {reason.more:.1%}"
    return f"{reason.column} {reason.value:,.6g} ({place} of rows, {reason.contribution:+.2f})"


def _volume_table(found: VolumeAnalysis) -> Table:
    """The highest scores; of rows that follow one another, the highest."""
    columns = [Column(name, justify="right") for name in ("row", "value", "expected", "score")]
    table = Table(columns[0], "time", *columns[1:])
    shown: list[int] = []
    for row in np.argsort(-found.scores.score, kind="stable"):
        if len(shown) == _TOP_ROWS or found.scores.score[row] == 0.0:
            break
        if all(abs(int(row) - other) > _TOP_ROWS for other in shown):
            shown.append(int(row))
            table.add_row(
                f"{row + 1:,}",
                _time(int(found.times_ms[row])),
                f"{found.values[row]:,.6g}",
                f"{found.scores.expected[row]:,.6g}",
                f"{found.scores.score[row]:.4f}",
            )
    return table


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(" ", "milliseconds")[:23]
