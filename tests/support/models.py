"""A model that is quick to make: one split, so that what it says is plain."""

from __future__ import annotations

import numpy as np

from detectors.anomaly import AnomalyModel, Reference, ScoringPlan
from detectors.drift import FeatureBins
from detectors.forest import LEAF, Forest

__all__ = ["DAY_MS", "split_model"]

DAY_MS = 86_400_000


def split_model(
    feature: str,
    above: float,
    *,
    name: str = "0123456789abcdef",
    where: str = "true",
    every_ms: int = 10_000,
    trained_to_ms: int = 2**50,
) -> AnomalyModel:
    """Scores rows with more than ``above`` high (0.81), others low (0.43); the former alert."""
    forest = Forest(
        features=(feature,),
        fill=np.array([0.0]),
        sample_size=8,
        tree_nodes=np.array([3], dtype=np.int32),
        feature=np.array([0, LEAF, LEAF], dtype=np.int16),
        threshold=np.array([above, 0.0, 0.0], dtype=np.float32),
        samples=np.array([8, 7, 1], dtype=np.int32),
    )
    usual = np.arange(1.0, 2 * above)
    low, high = forest.score(np.array([[0.0], [above + 1.0]])).tolist()
    reference = Reference(
        scores=np.array([low, high]),
        ranks=np.array([0.0, 0.99]),
        shares=np.array([0.0, 0.5, 1.0]),
        quantiles=np.quantile(usual, [0.0, 0.5, 1.0])[None, :],
        bins=FeatureBins.of(usual[:, None]),
    )
    return AnomalyModel(
        model_id=name,
        plan=ScoringPlan((feature,), where, every_ms),
        forest=forest,
        reference=reference,
        alert_rank=0.99,
        trained_to_ms=trained_to_ms,
        max_age_ms=30 * DAY_MS,
    )
