"""Training: from the rows that would be scored to a forest that is calibrated to alert rarely.

The trees see the first two thirds of the rows (after a warm-up, in which windows fill), nobody who
was found to be abusive, and at most some rows of each user and day, so that the busiest do not
decide what is usual. Where to alert follows from the highest score of each user and day: as many
of them may be above as were asked for, with a margin, since these are the very users that it is
calibrated on. What that means for users that the trees have not seen, the held-out third says.

Source: Liu, Ting, Zhou 2008, "Isolation Forest", https://doi.org/10.1109/ICDM.2008.17
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl
import sklearn
from sklearn.ensemble import IsolationForest

from detectors.anomaly import Reference
from detectors.definitions import column_definitions
from detectors.drift import FeatureBins
from monitor.models.card import Calibration, Card, Parameters, TrainingData
from monitor.models.errors import ModelError
from monitor.models.scales import scaled
from monitor.models.sklearn_forest import flatten
from monitor.version import program_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from detectors.anomaly import ScoringPlan
    from detectors.compiled import CompiledPack
    from detectors.forest import Forest
    from monitor.models.rows import FeatureRows
    from monitor.models.scales import Scale

__all__ = ["Trained", "TrainingSettings", "train"]

_DAY_MS: Final = 86_400_000
_WARM_UP_SHARE: Final = 0.25
_HELD_OUT_SHARE: Final = 1 / 3
_ROWS_PER_USER_DAY: Final = 30
_MIN_ROWS: Final = 2_000
_MARGIN: Final = 0.5
_TAIL_SCORES: Final = 50_000
_BODY_SCORES: Final = 4_096
_CARD_SHARES: Final = (0.0, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0)
_SHARES: Final = np.concatenate(
    [np.arange(0, 0.99, 0.01), np.arange(0.99, 0.999, 0.001), np.arange(0.999, 1.0, 0.0001), [1.0]]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How to train. ``alerts_per_10000`` users and day are wanted at most.

    ``max_samples`` rows make each tree: more than the usual 256, since what is wanted is rarer
    than one in a thousand.
    """

    trees: int = 100
    max_samples: int = 8_192
    seed: int = 1
    alerts_per_10000: float = 1.0
    max_age_days: float = 30.0


@dataclass(frozen=True, slots=True)
class Trained:
    """A model in the making: see ``monitor.models.files.write_model``."""

    card: Card
    forest: Forest
    reference: Reference


def train(
    rows: FeatureRows,
    condemned: int,
    pack: CompiledPack,
    sources: Sequence[str],
    settings: TrainingSettings,
) -> Trained:
    """Train what ``pack`` says on the rows of users not known to be abusive.

    ``condemned`` is how many were left out, ``sources`` where the rows are from: for the card.

    Raises:
        ModelError: there is too little to learn from.
    """
    plan = pack.plan
    assert plan is not None, "the rows are of a plan"
    if len(rows.users) < _MIN_ROWS:
        raise ModelError(
            f"{len(rows.users):,} rows are too few to learn from ({_MIN_ROWS:,} at least): each "
            f"user gives one in {plan.every_ms // 1000} s of activity; give a longer log"
        )
    first_ms, last_ms = int(rows.times_ms.min()), int(rows.times_ms.max())
    warm_up_ms = min(_DAY_MS, int((last_ms - first_ms) * _WARM_UP_SHARE))
    rows = rows.of(rows.times_ms >= first_ms + warm_up_ms)
    held_out_from_ms = last_ms - int((last_ms - first_ms - warm_up_ms) * _HELD_OUT_SHARE)
    fitting = rows.of(rows.times_ms < held_out_from_ms)
    fitting = fitting.of(_thinned(fitting, settings.seed))
    if len(fitting.users) < _MIN_ROWS // 2:
        raise ModelError(f"{len(fitting.users):,} rows before the held-out third are too few")
    fill = _medians(fitting.features)
    # Linear: what is rare is rare because it is far out, and trees should see how far.
    scales: tuple[Scale, ...] = tuple("linear" for _ in plan.features)
    forest = _fitted(fitting.features, fill, scales, plan, settings)
    scores = forest.score(rows.features)
    data = TrainingData(
        sources=tuple(sources),
        events=rows.events,
        first_ms=first_ms,
        last_ms=last_ms,
        warm_up_ms=warm_up_ms,
        held_out_from_ms=held_out_from_ms,
        rows=len(rows.users),
        training_rows=len(fitting.users),
        users=len(np.unique(rows.users)),
        excluded_users=condemned,
    )
    calibration = _calibrated(rows, scores, held_out_from_ms, settings.alerts_per_10000)
    card = _card(pack, plan, scales, settings, data, calibration, scores)
    return Trained(card, forest, _reference(rows, scores, fill))


def _card(
    pack: CompiledPack,
    plan: ScoringPlan,
    scales: tuple[Scale, ...],
    settings: TrainingSettings,
    data: TrainingData,
    calibration: Calibration,
    scores: npt.NDArray[np.float64],
) -> Card:
    return Card(
        pack=pack.pack.name,
        pack_version=pack.version,
        features=plan.features,
        scales=scales,
        definitions=column_definitions(pack, plan.features),
        where=plan.where,
        every_ms=plan.every_ms,
        data=data,
        parameters=Parameters(
            trees=settings.trees,
            max_samples=min(settings.max_samples, data.training_rows),
            seed=settings.seed,
        ),
        calibration=calibration,
        score_quantiles={str(share): float(np.quantile(scores, share)) for share in _CARD_SHARES},
        max_age_days=settings.max_age_days,
        versions={
            "floodwatch": program_version(),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
        arrays_sha256="",
    )


def _reference(
    rows: FeatureRows, scores: npt.NDArray[np.float64], fill: npt.NDArray[np.float64]
) -> Reference:
    known, ranks = _ranked(scores)
    filled = np.where(np.isnan(rows.features), fill, rows.features)
    quantiles = np.quantile(filled, _SHARES, axis=0, method="inverted_cdf").T
    bins = FeatureBins.of(filled)
    return Reference(known, ranks, _SHARES, np.ascontiguousarray(quantiles), bins)


def _thinned(rows: FeatureRows, seed: int) -> npt.NDArray[np.bool_]:
    """Which of n rows to keep, so that there are at most so many of each user and day."""
    drawn = np.random.default_rng(seed).random(len(rows.users))
    frame = pl.DataFrame({"user": rows.users, "day": rows.times_ms // _DAY_MS, "drawn": drawn})
    place = pl.col("drawn").rank("ordinal").over("user", "day")
    return frame.select(place <= _ROWS_PER_USER_DAY).to_series().to_numpy()


def _medians(features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """What stands for an unknown value of each feature: the median, 0 where none is known."""
    known = ~np.isnan(features)
    some = np.where(known.any(axis=0), features, 0.0)
    return np.asarray(np.nanmedian(some, axis=0))


def _fitted(
    features: npt.NDArray[np.float64],
    fill: npt.NDArray[np.float64],
    scales: Sequence[Scale],
    plan: ScoringPlan,
    settings: TrainingSettings,
) -> Forest:
    filled = np.where(np.isnan(features), fill, features)
    forest = IsolationForest(
        n_estimators=settings.trees,
        max_samples=min(settings.max_samples, len(filled)),
        random_state=settings.seed,
    )
    forest.fit(scaled(filled, scales))
    return flatten(forest, plan.features, fill, scales)


def _calibrated(
    rows: FeatureRows,
    scores: npt.NDArray[np.float64],
    held_out_from_ms: int,
    wanted_per_10000: float,
) -> Calibration:
    """Where to alert: the score that few enough users exceed on a day."""
    days = pl.DataFrame(
        {
            "user": rows.users,
            "day": rows.times_ms // _DAY_MS,
            "held_out": rows.times_ms >= held_out_from_ms,
            "score": scores,
        }
    )
    highest = days.group_by("user", "day").agg(pl.col("score").max())["score"].sort(descending=True)
    allowed = round(_MARGIN * wanted_per_10000 * len(highest) / 1e4)
    # Above the first that must not alert any more.
    bound = float(highest[allowed])
    rank = float((scores <= bound).mean())
    held_out = days.filter("held_out").group_by("user", "day").agg(pl.col("score").max())["score"]
    return Calibration(
        wanted_per_10000=wanted_per_10000,
        alert_score=float(np.nextafter(bound, 1.0)),
        alert_rank=rank,
        user_days=len(highest),
        alerting_user_days=int((highest > bound).sum()),
        held_out_user_days=len(held_out),
        held_out_alerting_user_days=int((held_out > bound).sum()),
    )


def _ranked(
    scores: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Scores and the shares of rows below each: all of the highest, a selection of the others."""
    ascending = np.unique(scores)
    below = np.searchsorted(np.sort(scores), ascending, side="left") / len(scores)
    if len(ascending) <= _TAIL_SCORES + _BODY_SCORES:
        return ascending, below
    body = np.linspace(0, len(ascending) - _TAIL_SCORES - 1, _BODY_SCORES).astype(np.int64)
    tail = np.arange(len(ascending) - _TAIL_SCORES, len(ascending))
    kept = np.concatenate([np.unique(body), tail])
    return ascending[kept], below[kept]
