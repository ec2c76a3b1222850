"""Accounts that act together, in any table of who did what when; pairs, edges, groups, a picture.

Names stay out of the search: they become codes first, and come back when results are written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from detectors.coordination import (
    Actions,
    Chances,
    CoordinationSearch,
    CoordinationSettings,
    Edges,
    EdgeSum,
)
from detectors.grouping import Groups, find_components, find_groups
from monitor.analysis.errors import AnalysisError
from monitor.analysis.times import event_times_ms

if TYPE_CHECKING:
    import numpy.typing as npt

    from monitor.analysis.tables import Table

__all__ = [
    "FALSE_DISCOVERIES",
    "Coordination",
    "CoordinationColumns",
    "find_coordination",
    "read_actions",
]

FALSE_DISCOVERIES: Final = 0.05
"""The share of ties that may be chance, of those that are called significant."""


@dataclass(frozen=True, slots=True)
class CoordinationColumns:
    """The columns of a table that say what was acted on, by whom, with which content, when."""

    object: str
    account: str
    content: str
    time: str


@dataclass(frozen=True, slots=True, eq=False)
class Coordination:
    """What was found; E edges between A accounts (``accounts`` (A,): their names, ascending).

    ``kept`` (E,) are the edges of which groups were made, by ``weight`` (E,). ``weight_above`` is
    the quantile of weights that was asked for: only edges above it are kept.
    """

    columns: CoordinationColumns
    search: CoordinationSearch
    accounts: pl.Series
    objects: int
    contents: int
    pairs: int
    edges: Edges
    chances: Chances
    weight: npt.NDArray[np.float64]
    kept: npt.NDArray[np.bool_]
    groups: Groups
    weight_above: float | None
    significant: bool

    def edge_table(self) -> pl.DataFrame:
        """All edges, those that chance explains least first."""
        edges, chances = self.edges, self.chances
        return pl.DataFrame(
            {
                "account_id": self.accounts[edges.a],
                "account_id_y": self.accounts[edges.b],
                "weight": edges.weight,
                "objects": edges.objects,
                "mean_time_delta": edges.apart_ms / 1_000,
                "expected": chances.expected,
                "p": chances.p,
                "q": chances.q,
                "kept": self.kept,
            }
        ).sort(["q", "p", "weight"], descending=[False, False, True], maintain_order=True)

    def group_table(self) -> pl.DataFrame:
        """The members of all groups, the largest group first, who is tied most first."""
        groups, sizes = self.groups, np.diff(self.groups.starts)
        return pl.DataFrame(
            {
                "group": np.repeat(np.arange(1, len(groups) + 1), sizes),
                "account_id": self.accounts[groups.members.astype(np.int64)],
                "rank": np.arange(len(groups.members)) - np.repeat(groups.starts[:-1], sizes) + 1,
                "weighted_degree": groups.degree,
                "core": groups.core,
            }
        )


def find_coordination(
    table: Table,
    columns: CoordinationColumns,
    settings: CoordinationSettings,
    pairs_path: Path,
    *,
    edge_weight: float | None = None,
    significant: bool = False,
) -> Coordination:
    """Find who acts together, and write all pairs to ``pairs_path`` (Parquet) on the way.

    ``edge_weight`` keeps the edges with a weight above that quantile (0 to 1) of all weights.
    ``significant`` keeps those that chance does not explain, and makes groups that no single
    account holds together; otherwise groups are connected components.

    Raises:
        AnalysisError: a column is missing or wrong, a name or a time is missing in a row.
    """
    assert edge_weight is None or 0.0 <= edge_weight <= 1.0
    actions, accounts = read_actions(table, columns)
    search = CoordinationSearch(actions, settings)
    pairs, edges = _write_pairs(search, table, columns, pairs_path)
    chances = search.chances(edges)
    kept = np.ones(len(edges), dtype=np.bool_)
    weight_above = None
    if edge_weight is not None and len(edges):
        weight_above = float(np.quantile(edges.weight, edge_weight))
        kept &= edges.weight > weight_above
    if significant:
        kept &= chances.q <= FALSE_DISCOVERIES
    weight = (edges.objects if significant else edges.weight).astype(np.float64)
    group = find_groups if significant else find_components
    return Coordination(
        columns=columns,
        search=search,
        accounts=accounts,
        objects=int(actions.objects.max()) + 1,
        contents=int(actions.contents.max()) + 1,
        pairs=pairs,
        edges=edges,
        chances=chances,
        weight=weight,
        kept=kept,
        groups=group(
            edges.a[kept].astype(np.int64),
            edges.b[kept].astype(np.int64),
            weight[kept],
        ),
        weight_above=weight_above,
        significant=significant,
    )


def read_actions(table: Table, columns: CoordinationColumns) -> tuple[Actions, pl.Series]:
    """The table as codes, and the names of the accounts, by code: ascending.

    Raises:
        AnalysisError: a column is missing or wrong, a name or a time is missing in a row.
    """
    if len(set(asdict(columns).values())) < len(asdict(columns)):
        raise AnalysisError(
            f"{table.path}: one column cannot be two of object, account, content and time"
        )
    objects, accounts, contents = (
        _names(table, name) for name in (columns.object, columns.account, columns.content)
    )
    account_codes = _codes(accounts)
    first_rows = np.empty(int(account_codes.max()) + 1, dtype=np.int64)
    first_rows[account_codes[::-1]] = np.arange(len(account_codes))[::-1]
    names = accounts[first_rows]
    by_name = names.arg_sort().to_numpy()
    code = np.empty(len(names), dtype=np.int32)
    code[by_name] = np.arange(len(names), dtype=np.int32)
    actions = Actions(
        objects=_codes(objects),
        accounts=code[account_codes],
        contents=_codes(contents),
        times_ms=event_times_ms(table, columns.time),
        own=(objects == contents).to_numpy(),
    )
    return actions, names[by_name]


def _names(table: Table, name: str) -> pl.Series:
    """A column of texts, whole numbers or categories, as texts."""
    column = table.column(name)
    if not (
        column.dtype.is_integer() or isinstance(column.dtype, pl.String | pl.Categorical | pl.Enum)
    ):
        raise AnalysisError(
            f"{table.path}: column {name!r} holds {column.dtype}, not names;"
            " use texts or whole numbers"
        )
    missing = column.is_null().arg_true()
    if len(missing):
        raise AnalysisError(
            f"{table.place(int(missing[0]))}: nothing in column {name!r}; drop such rows"
            f" ({len(missing):,} of {len(column):,})"
        )
    return column.cast(pl.String)


def _codes(names: pl.Series) -> npt.NDArray[np.int32]:
    """For each row its name's code, in the order of appearance."""
    categories = pl.Categorical(pl.Categories.random())
    return names.cast(categories).to_physical().to_numpy().astype(np.int32)


def _write_pairs(
    search: CoordinationSearch, table: Table, columns: CoordinationColumns, path: Path
) -> tuple[int, Edges]:
    """Write the pairs chunk by chunk; returns how many there are, and the edges they make."""
    total, count = EdgeSum(search), 0
    sides = table.frame.select(
        object_id=columns.object, account_id=columns.account, content_id=columns.content
    )
    with TemporaryDirectory(dir=path.parent, prefix=".pairs-") as folder:
        parts = [Path(folder) / "0.parquet"]
        _pair_table(search, sides, np.empty(0, np.int32), np.empty(0, np.int32)).write_parquet(
            parts[0]
        )
        for pairs in search.pairs():
            total.add(pairs)
            count += len(pairs)
            parts.append(Path(folder) / f"{len(parts)}.parquet")
            _pair_table(search, sides, pairs.older, pairs.newer).write_parquet(parts[-1])
        pl.scan_parquet(parts).sink_parquet(path)
    return count, total.edges()


def _pair_table(
    search: CoordinationSearch,
    sides: pl.DataFrame,
    older: npt.NDArray[np.int32],
    newer: npt.NDArray[np.int32],
) -> pl.DataFrame:
    """Pairs with the columns of CooRTweet: ``_y`` is the newer side, times apart in seconds."""
    times_ms = search.actions.times_ms
    left, right = sides[older], sides[newer]
    return pl.DataFrame(
        [
            left["object_id"],
            left["account_id"],
            right["account_id"].alias("account_id_y"),
            left["content_id"],
            right["content_id"].alias("content_id_y"),
            pl.Series("time_delta", (times_ms[newer] - times_ms[older]) / 1_000),
        ]
    )
