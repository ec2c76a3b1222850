"""What a model is trained on: the rows that it would score, taken from logs by the stage itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import polars as pl

from detectors.batch import EventBatch
from detectors.keys import hash_strings
from monitor.logs import replay_logs
from monitor.models.errors import ModelError
from monitor.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from detectors.anomaly import ScoredRows, ScoringPlan
    from detectors.topology import Topology
    from monitor.logs import LogFile
    from monitor.pipeline import PipelineResult

__all__ = ["FeatureRows", "collect_rows", "read_rows", "write_rows"]

_VERDICT: Final = "verdict.given"
_ABUSE: Final = "abuse"


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """n rows in log order: users as hashes (n,), times (n,) ms, features (n, k) with NaN for null.

    ``condemned`` are users whom a moderator found to be abusive. ``events`` is how many were read.
    """

    users: npt.NDArray[np.uint64]
    times_ms: npt.NDArray[np.int64]
    features: npt.NDArray[np.float64]
    condemned: npt.NDArray[np.uint64]
    events: int

    def of(self, kept: npt.NDArray[np.bool_]) -> FeatureRows:
        """Some of the rows (n,)."""
        return replace(
            self,
            users=self.users[kept],
            times_ms=self.times_ms[kept],
            features=self.features[kept],
        )

    def without(self, users: Collection[str]) -> FeatureRows:
        """The rows of nobody who was condemned, and of none of ``users``."""
        named = hash_strings(pl.Series(sorted(users), dtype=pl.String))
        return self.of(~np.isin(self.users, np.concatenate([self.condemned, named])))


@dataclass(slots=True)
class _Collector:
    """Takes what a stage would score."""

    users: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    times_ms: list[npt.NDArray[np.int64]] = field(default_factory=list)
    features: list[npt.NDArray[np.float64]] = field(default_factory=list)
    condemned: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    events: int = 0

    def take(self, batch: EventBatch, rows: ScoredRows) -> None:
        self.users.append(hash_strings(batch.keys.gather(rows.positions)))
        self.times_ms.append(batch.times_ms[rows.positions])
        self.features.append(rows.features)

    def look(self, batch: EventBatch) -> None:
        self.events += len(batch)
        if "verdict" not in batch.frame.columns:  # the pack does not read it
            return
        abusive = (batch.frame["type"] == _VERDICT) & (batch.frame["verdict"] == _ABUSE)
        if abusive.any():
            self.condemned.append(hash_strings(batch.keys.filter(abusive.fill_null(value=False))))


class _CollectingRunner(Runner):
    """A runner with one partition, whose stage shows what it would score."""

    def __init__(
        self, topology: Topology, sources: Sequence[str], plan: ScoringPlan, to: _Collector
    ) -> None:
        super().__init__(topology, sources, partitions=1)
        self._to = to
        self._batch: EventBatch | None = None
        anomalies = self.stages[0].anomalies
        anomalies.sample(plan)
        anomalies.observe = self._take

    def _take(self, rows: ScoredRows) -> None:
        assert self._batch is not None, "rows are scored while a batch is applied"
        self._to.take(self._batch, rows)

    def _apply(self, frame: pl.DataFrame, result: PipelineResult) -> None:
        self._batch = EventBatch.of(frame)
        self._to.look(self._batch)
        super()._apply(frame, result)


def collect_rows(
    topology: Topology,
    plan: ScoringPlan,
    logs: Sequence[LogFile],
    progress: Callable[[], None],
) -> FeatureRows:
    """Replay logs through the stages and keep what would be scored; ``progress`` is called often.

    Raises:
        LogError: a log cannot be read.
    """
    collector = _Collector()
    runner = _CollectingRunner(topology, [log.name for log in logs], plan, collector)
    for _ in replay_logs(runner, logs):
        progress()
    width = len(plan.features)
    return FeatureRows(
        np.concatenate([np.zeros(0, dtype=np.uint64), *collector.users]),
        np.concatenate([np.zeros(0, dtype=np.int64), *collector.times_ms]),
        np.concatenate([np.zeros((0, width)), *collector.features]),
        np.unique(np.concatenate([np.zeros(0, dtype=np.uint64), *collector.condemned])),
        collector.events,
    )


def write_rows(path: Path, rows: FeatureRows, plan: ScoringPlan) -> None:
    """Keep rows as a Parquet file: ``user`` (hash), ``time_ms``, ``condemned``, then features."""
    columns = [
        pl.Series("user", rows.users),
        pl.Series("time_ms", rows.times_ms),
        pl.Series("condemned", np.isin(rows.users, rows.condemned)),
        *(pl.Series(name, rows.features[:, i]) for i, name in enumerate(plan.features)),
    ]
    pl.DataFrame(columns).write_parquet(path)


def read_rows(path: Path, plan: ScoringPlan) -> FeatureRows | None:
    """The rows that ``write_rows`` has kept; None if the file holds something else (events).

    Raises:
        ModelError: it holds rows, but of other features.
    """
    if path.suffix != ".parquet":
        return None
    names = list(pl.read_parquet_schema(path))
    if names[:3] != ["user", "time_ms", "condemned"]:
        return None
    missing = [name for name in plan.features if name not in names]
    if missing:
        raise ModelError(f"{path} has no {', '.join(missing[:5])}: make the rows anew from logs")
    frame = pl.read_parquet(path)
    users = frame["user"].to_numpy()
    return FeatureRows(
        users,
        frame["time_ms"].to_numpy(),
        frame.select(plan.features).to_numpy(order="c"),
        np.unique(users[frame["condemned"].to_numpy()]),
        len(frame),
    )
