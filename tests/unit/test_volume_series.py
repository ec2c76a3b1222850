"""Series that somebody kept: what is unusual in them, and what cannot be scored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from detectors.series import SeriesError, score_series

_ROWS = 3_000
_TIMES_MS = 10**12 + np.arange(_ROWS) * 300_000


def _noise(seed: int = 1) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=_ROWS)


def test_a_spike_scores_highest_whatever_its_sign() -> None:
    for sign in (1, -1):
        values = 40 + 2 * _noise()
        values[2_000] += sign * 30
        scores = score_series(_TIMES_MS, values).score
        assert scores.argmax() == 2_000
        assert scores[2_000] > 0.9
        assert (scores >= 0.5).mean() < 0.003


def test_sides_look_one_way_only() -> None:
    values = 40 + 2 * _noise()
    values[2_000] += 30
    values[2_500] -= 30
    high = score_series(_TIMES_MS, values, side="high").score
    low = score_series(_TIMES_MS, values, side="low").score
    assert [int(high.argmax()), int(low.argmax())] == [2_000, 2_500]
    assert max(high[2_500], low[2_000]) < 0.01


def test_what_comes_every_day_is_usual_and_its_absence_is_not() -> None:
    hour = _TIMES_MS // 3_600_000 % 24
    values = np.where((hour >= 8) & (hour < 20), 80.0, 20.0) + _noise()
    scores = score_series(_TIMES_MS, values).score
    assert scores[1_500:].max() < 0.5
    day = np.flatnonzero((hour >= 8) & (hour < 20) & (np.arange(_ROWS) > 2_500))[:36]
    values[day] = 20.0 + _noise()[day]
    missed = score_series(_TIMES_MS, values).score
    assert 1_500 + missed[1_500:].argmax() in day  # The first day was all news.
    assert missed[day].max() > 0.5


def test_a_series_that_never_changed_is_judged_at_its_first_change() -> None:
    values = np.full(_ROWS, 5.0)
    values[2_000] = 5.1
    scores = score_series(_TIMES_MS, values).score
    assert scores[:2_000].max() < 0.01
    assert scores[2_000] > 0.999


def test_spikes_that_always_come_are_not_news() -> None:
    """The tail is learned: the last of a hundred like spikes scores less than a lone one."""
    lone, many = 10 + _noise(), 10 + _noise()
    lone[2_900] += 15
    many[100:2_901:28] += 15
    alone = score_series(_TIMES_MS, lone).score[2_900]
    usual = score_series(_TIMES_MS, many).score[2_900]
    assert usual < 0.5 < alone


def test_a_new_level_is_news_once() -> None:
    values = 10 + _noise()
    values[1_500:] += 50
    scores = score_series(_TIMES_MS, values).score
    assert scores[1_500] > 0.9
    assert scores[2_000:].max() < 0.9


def test_counts_are_told_from_levels_as_rows_come() -> None:
    rng = np.random.default_rng(1)
    counts = rng.poisson(3.0, _ROWS).astype(np.float64)
    assert score_series(_TIMES_MS, counts).counted.all()
    counts[1_000] = 2.5
    assert score_series(_TIMES_MS, counts).counted.sum() == 1_000
    assert not score_series(_TIMES_MS, 10_000 + counts // 1).counted[1:].any()
    steady = np.where(np.arange(_ROWS) % 2, 20.0, 21.0)  # Whole, but far from random.
    assert not score_series(_TIMES_MS, steady).counted[30:].any()


def test_missing_events_of_a_small_count_are_found() -> None:
    counts = np.random.default_rng(2).poisson(8.0, _ROWS).astype(np.float64)
    counts[2_500:2_506] = 0
    scores = score_series(_TIMES_MS, counts).score
    assert 2_500 <= scores.argmax() < 2_530
    assert scores.max() > 0.999


@pytest.mark.parametrize(
    ("times_ms", "values", "kind", "row", "said"),
    [
        ([5, 4], [1.0, 1.0], "auto", 1, "before"),
        ([4, 5], [1.0, np.nan], "auto", 1, "not finite"),
        ([4, 5], [1.0, -1.0], "counts", 1, "-1 is no count"),
    ],
)
def test_what_cannot_be_scored_is_said_with_its_row(
    times_ms: list[int], values: list[float], kind: str, row: int, said: str
) -> None:
    with pytest.raises(SeriesError, match=said) as caught:
        score_series(np.array(times_ms), np.array(values), kind=kind)  # type: ignore[arg-type]
    assert caught.value.row == row


def test_no_rows_have_no_scores() -> None:
    assert len(score_series(np.array([], dtype=np.int64), np.array([])).score) == 0
