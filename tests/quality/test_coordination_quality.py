"""Coordination in real data: the figures that were published, and no more than chance explains.

``docs/analysis.md`` tells the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl
import pytest

from detectors.coordination import Actions, CoordinationSearch, CoordinationSettings
from detectors.grouping import Groups, find_components, find_groups
from tests.support.shares import russian_shares, shuffled_accounts

_Q: Final = 0.05
_PERMUTATIONS: Final = 20


class _Found(NamedTuple):
    search: CoordinationSearch
    ties: int
    groups: Groups
    least_q: float


def _find(actions: Actions, window_s: int) -> _Found:
    search = CoordinationSearch(actions, CoordinationSettings(window_ms=window_s * 1_000))
    edges = search.edges()
    q = search.chances(edges).q
    ties = edges.take(q <= _Q)
    groups = find_groups(
        ties.a.astype(np.int64), ties.b.astype(np.int64), ties.objects.astype(float)
    )
    return _Found(search, len(ties), groups, float(q.min()))


def test_the_published_figures_come_out(data_dir: Path) -> None:
    """Of CooRTweet: detect_groups(min_participation=2, time_window=60), and its network."""
    search = CoordinationSearch(russian_shares(data_dir), CoordinationSettings())
    edges = search.edges()
    assert sum(map(len, search.pairs())) == 3_791
    assert len(edges) == 3_721
    assert len(np.union1d(edges.a, edges.b)) == 2_110
    assert edges.weight.sum() == 3_791
    assert np.bincount(edges.weight).tolist() == [0, 3_661, 51, 8, 1]


def test_raw_edges_glue_nearly_everybody_together(data_dir: Path) -> None:
    """Why significance is tested at all: 96 % of the network is one component."""
    edges = CoordinationSearch(russian_shares(data_dir), CoordinationSettings()).edges()
    components = find_components(
        edges.a.astype(np.int64), edges.b.astype(np.int64), edges.weight.astype(float)
    )
    assert np.diff(components.starts)[:3].tolist() == [2_019, 11, 7]


@pytest.mark.parametrize(
    ("window_s", "ties", "group_sizes", "least_q"),
    [(60, 2, [], 2.0e-4), (120, 5, [], 1e-4), (300, 9, [3], 3.0e-7)],
)
def test_what_chance_does_not_explain(
    data_dir: Path,
    tell: Callable[[str], None],
    window_s: int,
    ties: int,
    group_sizes: list[int],
    least_q: float,
) -> None:
    found = _find(russian_shares(data_dir), window_s)
    sizes = np.diff(found.groups.starts).tolist()
    tell(f"{window_s} s: {found.ties} ties, groups of {sizes}, least q {found.least_q:.2g}")
    assert found.ties == ties
    assert sizes == group_sizes
    assert found.least_q == pytest.approx(least_q, rel=0.3)


@pytest.mark.parametrize("window_s", [60, 300])
def test_shuffled_accounts_are_no_group(
    data_dir: Path, tell: Callable[[str], None], window_s: int
) -> None:
    """Each object keeps its accounts and times; who acted when is drawn anew."""
    actions = russian_shares(data_dir)
    found = [_find(shuffled_accounts(actions, seed), window_s) for seed in range(_PERMUTATIONS)]
    groups = sum(len(one.groups) > 0 for one in found)
    ties = sum(one.ties > 0 for one in found)
    tell(
        f"{window_s} s: of {_PERMUTATIONS} permutations {ties} have a significant tie,"
        f" {groups} a group; least q {min(one.least_q for one in found):.2g}"
    )
    assert groups <= 1
    assert ties <= 3


def test_expected_meetings_are_what_shuffling_gives(
    data_dir: Path, tell: Callable[[str], None]
) -> None:
    """Summed over all pairs of accounts, they are the mean number of objects pairs meet on."""
    actions = russian_shares(data_dir)
    met = []
    for seed in range(_PERMUTATIONS):
        edges = _find(shuffled_accounts(actions, seed), 60).search.edges()
        met.append(int(edges.objects.sum()))
    real = int(_find(actions, 60).search.edges().objects.sum())
    tell(f"meetings: {real:,}, after shuffling {np.mean(met):,.0f} ± {np.std(met):,.0f}")
    assert real == pytest.approx(np.mean(met), rel=0.1)


@pytest.mark.parametrize("members", [5, 8])
def test_a_planted_group_is_found_whole_and_alone(data_dir: Path, members: int) -> None:
    """Accounts that share six objects of the real data within 20 s, twice a day apart at random."""
    actions = russian_shares(data_dir)
    rng = np.random.default_rng(7)
    sizes = np.bincount(actions.objects)
    objects = rng.choice(np.flatnonzero((sizes > 50) & (sizes < 500)), 6, replace=False)
    accounts = int(actions.accounts.max()) + 1 + np.arange(members)
    planted = pl.DataFrame({"object": objects, "start": rng.integers(0, 86_400_000, 6)})
    planted = planted.join(pl.DataFrame({"account": accounts}), how="cross")
    starts = np.array([actions.times_ms[actions.objects == k].min() for k in planted["object"]])
    count = planted.height
    together = Actions(
        np.append(actions.objects, planted["object"].to_numpy()).astype(np.int32),
        np.append(actions.accounts, planted["account"].to_numpy()).astype(np.int32),
        np.append(actions.contents, actions.contents.max() + 1 + np.arange(count)).astype(np.int32),
        np.append(
            actions.times_ms,
            starts + planted["start"].to_numpy() + rng.integers(0, 20_000, count),
        ),
        np.append(actions.own, np.zeros(count, dtype=bool)),
    )
    found = _find(together, 60)
    assert [set(found.groups.members.tolist())] == [set(accounts.tolist())]
    assert found.groups.core.all()
