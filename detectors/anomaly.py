"""Anomaly scores: how unlike everybody else an actor behaves, as columns that rules read.

Purpose: score the features of an actor with an isolation forest whenever that is due, and say what
made the score.
Assumptions: features are as the model was trained on (the caller has checked that); events come in
log order. An actor is *due* at the first event that the model asks for after ``every_ms`` of event
time, so what is scored does not depend on batches.
Columns: null where an event is not scored, and everywhere without a model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

import numba
import numpy as np
import numpy.typing as npt
import polars as pl

from detectors.drift import MAX_PSI, DriftWindow
from detectors.errors import ExpressionError, PackError, StateError, near_match
from detectors.expressions import evaluate, parse
from detectors.state.fields import Field, Span

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from detectors.drift import FeatureBins
    from detectors.forest import Forest
    from detectors.keys import Flags, Rows
    from detectors.state.blocks import Array

__all__ = [
    "ANOMALY_COLUMNS",
    "AnomalyColumns",
    "AnomalyModel",
    "AnomalyScorer",
    "Contribution",
    "Explanation",
    "FixedModels",
    "ModelPair",
    "Models",
    "Reference",
    "ScoredRows",
    "ScoringPlan",
    "check_plan",
    "pair_name",
]

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ANOMALY_COLUMNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "anomaly_score": "How unlike the others the user behaves, 0 to 1; null when not scored.",
        "anomaly_rank": "Share of the model's reference rows with a lower score, 0 to 1.",
        "anomaly_alert_rank": "The rank from which on the model was calibrated to alert.",
        "challenger_score": "The score that the challenger gives.",
        "challenger_rank": "The rank that the challenger gives.",
        "challenger_alert_rank": "The rank from which on the challenger would alert.",
    }
)
"""The columns that rules can read, all numbers, and what they say."""

_SHOWN_CONTRIBUTIONS: Final = 8
_DRIFT_SAMPLE: Final = 8
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class ScoringPlan:
    """What is scored: ``features`` (columns), at the events ``where`` (SQL), how often."""

    features: tuple[str, ...]
    where: str
    every_ms: int


def check_plan(plan: ScoringPlan, schema: Mapping[str, pl.DataType]) -> None:
    """Refuse a plan that cannot be carried out on columns of ``schema``.

    Raises:
        PackError: a column is unknown or no number, the SQL cannot be used.
    """
    for name in plan.features:
        if name not in schema:
            raise PackError(
                f"unknown column {name!r}", where="anomaly", hint=near_match(name, schema)
            )
        if not schema[name].is_numeric():
            raise PackError(f"column {name!r} is no number", where="anomaly")
    try:
        parse(plan.where, schema, "boolean")
    except ExpressionError as error:
        raise PackError(str(error), where="anomaly") from error


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What the model was calibrated on: to say where a score and a value stand among others.

    ``scores`` (m,) ascend; ``ranks`` (m,) are the shares of reference rows below them.
    ``quantiles`` (k, q) are each feature's at the ``shares`` (q,), from 0 to 1.
    """

    scores: Floats
    ranks: Floats
    shares: Floats
    quantiles: Floats
    bins: FeatureBins

    def rank(self, scores: Floats) -> Floats:
        """The share of reference rows that score lower (n,); 1 for more than all of them."""
        ranks = np.append(self.ranks, 1.0)
        return ranks[np.searchsorted(self.scores, scores, side="left")]

    def percentile(self, feature: int, value: float) -> float:
        """Where a value stands among the reference's, 0 to 100."""
        quantiles = self.quantiles[feature]
        below = int(np.searchsorted(quantiles, value, side="left"))
        upto = int(np.searchsorted(quantiles, value, side="right"))
        if below == upto:  # between two of them, or beyond all
            if below in (0, len(quantiles)):
                return 0.0 if below == 0 else 100.0
            return 100.0 * float(np.interp(value, quantiles, self.shares))
        return 50.0 * float(self.shares[below] + self.shares[upto - 1])


@dataclass(frozen=True, slots=True, eq=False)
class AnomalyModel:
    """A trained model, ready to score. ``alert_rank`` is where it was calibrated to alert.

    Its data ended at ``trained_to_ms``; from ``max_age_ms`` later on it is out of date.
    """

    model_id: str
    plan: ScoringPlan
    forest: Forest
    reference: Reference
    alert_rank: float
    trained_to_ms: int
    max_age_ms: int


@dataclass(frozen=True, slots=True, eq=False)
class ModelPair:
    """The champion, whose scores count, and the challenger, which is scored beside it."""

    champion: AnomalyModel | None = None
    challenger: AnomalyModel | None = None

    @property
    def name(self) -> str:
        """See ``pair_name``."""
        ids = [model.model_id if model else None for model in (self.champion, self.challenger)]
        return pair_name(*ids)


def pair_name(champion: str | None, challenger: str | None) -> str:
    """The ids of both, ``CHAMPION+CHALLENGER``; empty where there is neither."""
    return f"{champion or ''}+{challenger or ''}" if champion or challenger else ""


class Models(Protocol):
    """Where models come from."""

    @property
    def current(self) -> ModelPair:
        """The pair to be used from now on."""
        ...

    def named(self, name: str) -> ModelPair:
        """The pair of that name, which was used before.

        Raises:
            StateError: it is not to be had.
        """
        ...


class FixedModels:
    """Always the same pair; without one, nothing is scored."""

    def __init__(self, pair: ModelPair | None = None) -> None:
        self._pair = pair or ModelPair()

    @property
    def current(self) -> ModelPair:
        """See ``Models``."""
        return self._pair

    def named(self, name: str) -> ModelPair:
        """See ``Models``."""
        if name not in {"", self._pair.name}:
            raise StateError(
                f"it was made with model {name}, which is not here",
                where="models",
                hint="give the registry that has it (models.registry in the configuration)",
            )
        return self._pair if name else ModelPair()


@dataclass(frozen=True, slots=True)
class Contribution:
    """How far a feature moved the score, and where its value stands among the reference's."""

    feature: str
    value: float | None
    percentile: float
    contribution: float

    def __str__(self) -> str:
        value = "unknown" if self.value is None else f"{self.value:.4g}"
        return f"{self.feature} {value} (above {self.percentile:.4g} %, {self.contribution:+.2g})"


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score taken apart: ``baseline``, the contributions, largest first, and the ``rest``.

    ``degraded`` says why the model should be trusted less than when it was calibrated.
    """

    model_id: str
    score: float
    rank: float
    baseline: float
    contributions: tuple[Contribution, ...]
    rest: float
    degraded: tuple[str, ...] = ()

    @property
    def main(self) -> str:
        """What raised the score most, in words."""
        raising = [str(one) for one in self.contributions[:3] if one.contribution > 0]
        return "; ".join(raising)


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """The m rows of a batch that were due: positions (m,) in it, and features (m, k)."""

    positions: Int64s
    features: Floats


@dataclass(slots=True)
class AnomalyColumns:
    """The columns at the events of a batch, and what was seen on the way.

    ``drifts`` maps positions to the drift (PSI) of each feature in the hour that ended there.
    ``before`` is that of the last hour before. ``disagreed`` counts the rows at which only one of
    both models would alert, by which.
    """

    frame: pl.DataFrame
    scored: int = 0
    alerting: int = 0
    disagreed: Counter[str] = field(default_factory=Counter)
    before: Mapping[str, float] = field(default_factory=dict)
    drifts: dict[int, dict[str, float]] = field(default_factory=dict)

    def drift_at(self, position: int) -> Mapping[str, float]:
        """The drift of the last full hour before an event."""
        ended = [at for at in self.drifts if at <= position]
        return self.drifts[max(ended)] if ended else self.before


class AnomalyScorer:
    """Scores the users of one partition; keeps when each was scored last, and the drift."""

    def __init__(self, capacity: int, schema: Mapping[str, pl.DataType]) -> None:
        self._schema = schema
        self.scored_ms = np.zeros(capacity, dtype=np.int64)
        self.models = ModelPair()
        self.observe: Callable[[ScoredRows], None] | None = None
        self._plan: ScoringPlan | None = None
        self._wanted: pl.Expr | None = None
        self._drift = DriftWindow()

    @property
    def bytes_per_row(self) -> int:
        """Memory of one key, bytes."""
        return self.scored_ms.itemsize

    @property
    def row_arrays(self) -> dict[str, Array]:
        """See ``RowPart``."""
        return {"scored_ms": self.scored_ms}

    @property
    def fields(self) -> tuple[Field, ...]:
        """See ``RowPart``."""
        return (
            Field("last anomaly score", {"kind": "last score"}, {"scored_ms": [Span(0, 1, 1)]}),
        )

    def clear_rows(self, rows: slice) -> None:
        """See ``RowPart``."""
        self.scored_ms[rows] = 0

    def complete_rows(self, rows: slice) -> None:
        """See ``RowPart``: nothing follows."""

    def use(self, models: ModelPair) -> None:
        """Score with other models from the next event on."""
        if models.name == self.models.name:
            return
        self.models = models
        model = models.champion or models.challenger
        self.sample(None if model is None else model.plan)
        self._drift = DriftWindow() if model is None else DriftWindow.of(model.reference.bins)

    def sample(self, plan: ScoringPlan | None) -> None:
        """Look at the rows that a model with this plan would score (see ``observe``)."""
        self._plan = plan
        self._wanted = (
            None
            if plan is None
            else parse(plan.where, self._schema, "boolean").expr.fill_null(value=False)
        )

    def state(self) -> dict[str, Any]:
        """What is kept beside the rows, as JSON can hold it."""
        return {"models": self.models.name, "drift": self._drift.state()}

    def restore(self, state: Mapping[str, Any], models: Models) -> None:
        """Go on from a state."""
        self.use(models.named(state["models"]))
        self._drift.restore(state["drift"])

    def apply(
        self,
        frame: pl.DataFrame,
        times_ms: Int64s,
        rows: Rows,
        fresh: Flags,
        eligible: Flags,
        watermarks_ms: Int64s,
    ) -> AnomalyColumns:
        """Score what is due among n events (``eligible`` ones only), in order."""
        if self._plan is None or self._wanted is None:
            self.scored_ms[rows[fresh]] = 0
            return AnomalyColumns(_columns(len(frame), None, {}))
        wanted = evaluate(frame, [self._wanted]).to_series().to_numpy() & eligible
        positions = _take_due(times_ms, rows, fresh, wanted, self._plan.every_ms, self.scored_ms)
        if not len(positions):
            return AnomalyColumns(_columns(len(frame), None, {}))
        scored = ScoredRows(positions, _matrix(frame.select(self._plan.features)[positions]))
        if self.observe is not None:
            self.observe(scored)
        values: dict[str, Floats | float] = {}
        ranks = {}
        for role, model in self._by_role():
            features = (
                scored.features
                if model.plan.features == self._plan.features
                else _matrix(frame.select(model.plan.features)[positions])
            )
            scores = model.forest.score(features)
            ranks[role] = model.reference.rank(scores)
            values |= {
                f"{role}_score": scores,
                f"{role}_rank": ranks[role],
                f"{role}_alert_rank": model.alert_rank,
            }
        result = AnomalyColumns(_columns(len(frame), positions, values), len(positions))
        self._compare(ranks, result)
        if self.models.champion is not None:
            self._watch_drift(self.models.champion, scored, times_ms, watermarks_ms, result)
        return result

    def _watch_drift(
        self,
        champion: AnomalyModel,
        scored: ScoredRows,
        times_ms: Int64s,
        watermarks_ms: Int64s,
        result: AnomalyColumns,
    ) -> None:
        names = champion.plan.features
        sampled = times_ms[scored.positions] % _DRIFT_SAMPLE == 0
        at = scored.positions[sampled]
        result.before = dict(zip(names, self._drift.psi.tolist(), strict=True))
        result.drifts = {
            int(at[index]): dict(zip(names, psi.tolist(), strict=True))
            for index, psi in self._drift.add(scored.features[sampled], watermarks_ms[at])
        }

    def _by_role(self) -> list[tuple[str, AnomalyModel]]:
        both = (("anomaly", self.models.champion), ("challenger", self.models.challenger))
        return [(role, model) for role, model in both if model is not None]

    def _compare(self, ranks: Mapping[str, Floats], result: AnomalyColumns) -> None:
        alerts = {role: ranks[role] >= model.alert_rank for role, model in self._by_role()}
        if "anomaly" not in alerts:
            return
        result.alerting = int(alerts["anomaly"].sum())
        if "challenger" in alerts:
            champion, challenger = alerts["anomaly"], alerts["challenger"]
            result.disagreed["champion"] = int((champion & ~challenger).sum())
            result.disagreed["challenger"] = int((challenger & ~champion).sum())

    def explain(
        self, frame: pl.DataFrame, columns: AnomalyColumns, position: int, time_ms: int
    ) -> Explanation | None:
        """Why the event at ``position`` has its score; None if it has none.

        ``frame`` has all columns; ``columns`` is what ``apply`` gave for it.
        """
        model = self.models.champion or self.models.challenger
        role = "anomaly" if self.models.champion else "challenger"
        score = frame.item(position, f"{role}_score")
        if model is None or score is None:
            return None
        cells = {name: frame.item(position, name) for name in model.plan.features}
        row = np.array([np.nan if cell is None else float(cell) for cell in cells.values()])
        baseline, parts = model.forest.explain(row)
        filled = np.where(np.isnan(row), model.forest.fill, row)
        order = np.argsort(-np.abs(parts), kind="stable")
        contributions = tuple(
            Contribution(
                model.plan.features[i],
                None if np.isnan(row[i]) else float(row[i]),
                model.reference.percentile(i, float(filled[i])),
                float(parts[i]),
            )
            for i in order[:_SHOWN_CONTRIBUTIONS].tolist()
        )
        return Explanation(
            model_id=model.model_id,
            score=score,
            rank=frame.item(position, f"{role}_rank"),
            baseline=baseline,
            contributions=contributions,
            rest=float(parts[order[_SHOWN_CONTRIBUTIONS:]].sum()),
            degraded=_degraded(model, columns.drift_at(position), time_ms),
        )


def _degraded(model: AnomalyModel, drift: Mapping[str, float], time_ms: int) -> tuple[str, ...]:
    """Why a model should be trusted less than when it was calibrated."""
    said = []
    age_ms = time_ms - model.trained_to_ms
    if age_ms > model.max_age_ms:
        said.append(
            f"too old: its data ended {age_ms // _DAY_MS} days ago, "
            f"{model.max_age_ms // _DAY_MS} at most"
        )
    drifted = sorted(drift.items(), key=lambda item: -item[1])
    said += [f"drifted: {name}, PSI {psi:.2f}" for name, psi in drifted if psi > MAX_PSI]
    return tuple(said)


def _matrix(frame: pl.DataFrame) -> Floats:
    """The rows of ``frame`` (n, k), NaN where null."""
    columns = frame.select(pl.all().cast(pl.Float64).fill_null(np.nan))
    return columns.to_numpy(order="c")


def _columns(
    rows: int, positions: Int64s | None, values: Mapping[str, Floats | float]
) -> pl.DataFrame:
    """All anomaly columns of n rows: ``values`` at ``positions``, else null."""
    columns = []
    for name in ANOMALY_COLUMNS:
        if name in values and positions is not None:
            cells = np.full(rows, np.nan)
            cells[positions] = values[name]
            columns.append(pl.Series(name, cells, nan_to_null=True))
        else:
            columns.append(pl.repeat(None, rows, dtype=pl.Float64, eager=True).alias(name))
    return pl.DataFrame(columns)


@numba.njit(cache=True)
def _take_due(
    times_ms: Int64s,
    rows: Rows,
    fresh: Flags,
    wanted: Flags,
    every_ms: int,
    scored_ms: Int64s,
) -> Int64s:
    """The positions at which a row is due, in order; notes that they were."""
    due = np.empty(len(rows), dtype=np.int64)
    count = 0
    for i in range(len(rows)):
        row = rows[i]
        if fresh[i]:
            scored_ms[row] = 0
        if wanted[i] and times_ms[i] - scored_ms[row] >= every_ms:
            scored_ms[row] = times_ms[i]
            due[count] = i
            count += 1
    return due[:count]
