"""What an investigator gets of a search for coordination: tables, a summary and a picture."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from polars.exceptions import PolarsError

from detectors.grouping import find_components
from monitor.analysis.coordination import (
    FALSE_DISCOVERIES,
    Coordination,
    CoordinationColumns,
    find_coordination,
)
from monitor.analysis.errors import AnalysisError
from monitor.analysis.graph_picture import NO_GROUP, DrawnComponent, draw_components

if TYPE_CHECKING:
    import numpy.typing as npt

    from detectors.coordination import CoordinationSettings
    from monitor.analysis.tables import Table

__all__ = ["coordination_files"]

_MOST_LISTED: Final = 100
_MOST_DRAWN: Final = 2_500


def coordination_files(
    table: Table,
    columns: CoordinationColumns,
    settings: CoordinationSettings,
    folder: Path,
    *,
    edge_weight: float | None = None,
    significant: bool = False,
) -> Coordination:
    """Search and write pairs.parquet, edges.parquet, groups.parquet, summary.json and graph.svg.

    Raises:
        AnalysisError: see ``find_coordination``; or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = find_coordination(
            table,
            columns,
            settings,
            folder / "pairs.parquet",
            edge_weight=edge_weight,
            significant=significant,
        )
        found.edge_table().write_parquet(folder / "edges.parquet")
        found.group_table().write_parquet(folder / "groups.parquet")
        summary = json.dumps(_summary(found, table, edge_weight), indent=2, ensure_ascii=False)
        (folder / "summary.json").write_text(summary + "\n", encoding="utf-8")
        (folder / "graph.svg").write_text(_picture(found), encoding="utf-8")
    except (OSError, PolarsError) as error:
        raise AnalysisError(f"{folder}: cannot be written to ({error})") from error
    return found


def _summary(found: Coordination, table: Table, edge_weight: float | None) -> dict[str, object]:
    search, settings = found.search, found.search.settings
    left_out = search.left_out
    actions, pairs = search.actions_of(left_out[:_MOST_LISTED])
    names = table.frame[found.columns.object][search.first_rows(left_out[:_MOST_LISTED])]
    return {
        "input": str(table.path),
        "parameters": {
            "object": found.columns.object,
            "account": found.columns.account,
            "content": found.columns.content,
            "time": found.columns.time,
            "window_s": settings.window_ms / 1_000,
            "min_participation": settings.min_participation,
            "edge_weight": edge_weight,
            "significant": found.significant,
            "false_discoveries": FALSE_DISCOVERIES,
            "most_pairs": settings.most_pairs,
        },
        "rows": table.frame.height,
        "objects": found.objects,
        "accounts": len(found.accounts),
        "contents": found.contents,
        "dropped": {
            "rows_of_accounts_below_min_participation": table.frame.height - search.participating,
            "objects_beyond_most_pairs": len(left_out),
            "largest_of_these": [
                {"object": str(name), "actions": int(acted), "pairs": int(made)}
                for name, acted, made in zip(names, actions, pairs, strict=True)
            ],
        },
        "pairs": found.pairs,
        "vertices": _count_accounts(found, np.ones(len(found.edges), dtype=np.bool_)),
        "edges": len(found.edges),
        "pairs_of_accounts_tested": found.chances.tests,
        "tested_is_an_upper_bound": found.chances.bounded,
        "significant_edges": int((found.chances.q <= FALSE_DISCOVERIES).sum()),
        "weight_above": found.weight_above,
        "kept_edges": int(found.kept.sum()),
        "kept_vertices": _count_accounts(found, found.kept),
        "groups": len(found.groups),
        "group_sizes": np.diff(found.groups.starts)[:_MOST_LISTED].tolist(),
    }


def _count_accounts(found: Coordination, chosen: npt.NDArray[np.bool_]) -> int:
    edges = found.edges.take(chosen)
    return len(np.union1d(edges.a, edges.b))


def _picture(found: Coordination) -> str:
    parts, left = _drawn(found)
    accounts, kept = _count_accounts(found, found.kept), int(found.kept.sum())
    groups = "1 group" if len(found.groups) == 1 else f"{len(found.groups):,} groups"
    window_s = found.search.settings.window_ms / 1_000
    title = f"{accounts:,} accounts, {kept:,} ties, {groups} (window {window_s:g} s)"
    legend = (
        "A dot is an account, a line a tie; larger and wider the more often they acted together."
        " Colours are groups, filled dots their cores."
    )
    notes = [legend]
    if left:
        notes.append(f"Not drawn: {left:,} accounts, of small components or tied least.")
    return draw_components(parts, title, notes)


def _drawn(found: Coordination) -> tuple[list[DrawnComponent], int]:
    """What the kept edges connect, the largest first, and how many accounts do not fit."""
    edges, groups = found.edges.take(found.kept), found.groups
    weight = found.weight[found.kept]
    parts = find_components(edges.a.astype(np.int64), edges.b.astype(np.int64), weight)
    group = np.full(len(found.accounts), NO_GROUP)
    core = np.zeros(len(found.accounts), dtype=np.bool_)
    # Who is in several groups shows the colour of the largest, which is written last.
    members = groups.members[::-1].astype(np.int64)
    group[members] = np.repeat(np.arange(len(groups)), np.diff(groups.starts))[::-1]
    core[members] = groups.core[::-1]
    of_part = np.full(len(found.accounts), -1)
    of_part[parts.members] = np.repeat(np.arange(len(parts)), np.diff(parts.starts))
    by_part = np.argsort(of_part[edges.a], kind="stable")
    ends = np.searchsorted(of_part[edges.a][by_part], np.arange(len(parts) + 1))
    position = np.full(len(found.accounts), -1)
    drawn: list[DrawnComponent] = []
    room = _MOST_DRAWN
    for part, (start, end) in enumerate(itertools.pairwise(parts.starts.tolist())):
        shown = slice(start, min(end, start + room))
        nodes = parts.members[shown].astype(np.int64)
        if len(nodes) < 2:
            break
        room -= len(nodes)
        position[nodes] = np.arange(len(nodes))
        own = by_part[ends[part] : ends[part + 1]]
        a, b = position[edges.a[own]], position[edges.b[own]]
        inside = (a >= 0) & (b >= 0)
        drawn.append(
            DrawnComponent(
                names=found.accounts[nodes].to_list(),
                degree=parts.degree[shown],
                group=group[nodes],
                core=core[nodes],
                first=a[inside],
                second=b[inside],
                weight=weight[own][inside],
            )
        )
    return drawn, len(parts.members) - sum(len(part.names) for part in drawn)
