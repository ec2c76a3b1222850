"""The process that scores: ``python -m bench.scoring ROUNDS`` prints the figures as JSON.

The same forest, trained once by scikit-learn, scores the same rows in all three: float32 for the
peers, which saves them a conversion, float64 for ours, as features are. First it is checked that
they agree. Imports what it measures, so the harness does not import it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime
from skl2onnx import to_onnx
from sklearn.ensemble import IsolationForest

from bench.errors import BenchError
from bench.forest import BATCHES, OURS
from monitor.models.sklearn_forest import flatten

__all__ = ["measure"]

_TREES: Final = 100
_SAMPLES: Final = 256
_FEATURES: Final = 20
_TRAINING_ROWS: Final = 20_000
_SEED: Final = 1
_LEAST_S: Final = 0.3  # of processor time, for one measurement
_MAX_DIFFERENCE: Final = MappingProxyType({"sklearn": 1e-12, "onnxruntime": 1e-5})

Scorer = Callable[[int], npt.NDArray[np.floating]]


def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Rows per second by processor time: by batch size, of each, in each round."""
    scorers = _scorers()
    _check_agreement(scorers)
    rates: dict[str, dict[str, list[float]]] = {}
    for batch in BATCHES:
        of_batch = rates[str(batch)] = {name: [] for name in scorers}
        for _ in range(rounds):
            for name, score in scorers.items():
                of_batch[name].append(_rows_per_s(score, batch))
    return rates


def _check_agreement(scorers: dict[str, Scorer]) -> None:
    ours = scorers[OURS](max(BATCHES))
    for name, bound in _MAX_DIFFERENCE.items():
        difference = float(np.abs(scorers[name](max(BATCHES)) - ours).max())
        if not difference < bound:
            raise BenchError(f"{name} should give the same scores; they are {difference:.1e} off")


def _rows_per_s(score: Scorer, batch: int) -> float:
    score(batch)
    calls, start_s = 0, time.process_time()
    while (spent_s := time.process_time() - start_s) < _LEAST_S:
        score(batch)
        calls += 1
    return calls * batch / spent_s


def _scorers() -> dict[str, Scorer]:
    """Each scores the first rows, as many as it is asked to: high is anomalous."""
    rng = np.random.default_rng(_SEED)
    training = rng.normal(size=(_TRAINING_ROWS, _FEATURES)).astype(np.float32)
    rows = rng.normal(size=(max(BATCHES), _FEATURES)).astype(np.float32)
    reference = IsolationForest(n_estimators=_TREES, max_samples=_SAMPLES, random_state=_SEED)
    reference.fit(training)
    names = [f"feature_{column}" for column in range(_FEATURES)]
    forest = flatten(reference, names, np.zeros(_FEATURES))
    features = rows.astype(np.float64)
    session = _onnx_session(reference, training[:1])
    (first,) = session.get_inputs()

    def score_by_onnx(batch: int) -> npt.NDArray[np.floating]:
        (decisions,) = session.run(["scores"], {first.name: rows[:batch]})
        scores: npt.NDArray[np.floating] = -(decisions.ravel() + reference.offset_)
        return scores

    return {
        OURS: lambda batch: forest.score(features[:batch]),
        "sklearn": lambda batch: -reference.score_samples(rows[:batch]),
        "onnxruntime": score_by_onnx,
    }


def _onnx_session(
    reference: IsolationForest, row: npt.NDArray[np.float32]
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # The newest operators that both packages have for this model.
    model = to_onnx(reference, row, target_opset={"": 15, "ai.onnx.ml": 3})
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
