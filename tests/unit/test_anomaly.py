"""Anomaly scores in a stage: when they are due, what they say, and that batches do not matter."""

from __future__ import annotations

import random
from dataclasses import replace

import msgspec
import polars as pl
import pytest

from detectors.anomaly import FixedModels, ModelPair, ScoringPlan, check_plan
from detectors.batch import EventBatch
from detectors.compiled import compile_pack
from detectors.errors import PackError, StateError
from detectors.incidents import Alert
from detectors.pack import RuleSpec
from detectors.pressure import MODEL_DRIFT
from detectors.stages import StageOutputs, UserStage
from detectors.state import state_digest
from tests.support.events import START_MS, complete, random_events, small_pack
from tests.support.models import DAY_MS, split_model

ODD = RuleSpec(
    "odd", "Unlike the others", "anomaly_rank >= anomaly_alert_rank", "low", 0, "docs/odd.md"
)
SMALL = small_pack()
PACK = compile_pack(replace(SMALL, rules=(ODD,)))
WATCHFUL = split_model("generations_1m", 6.0)


def stage(champion: object = WATCHFUL, challenger: object = None) -> UserStage:
    pair = ModelPair(champion, challenger)  # type: ignore[arg-type]
    made = UserStage(PACK, 1_000, models=FixedModels(pair))
    made.use_models(pair.name)
    return made


def generations(times_s: list[float], user: str = "ann") -> EventBatch:
    """Generations that one user asks for."""
    frame = pl.DataFrame(
        {
            "event_id": [f"{user}-{index}" for index in range(len(times_s))],
            "type": ["generation.requested"] * len(times_s),
            "time_ms": [START_MS + round(1000 * time_s) for time_s in times_s],
            "user_id": [user] * len(times_s),
            "tier": ["free"] * len(times_s),
        }
    )
    schema = complete(pl.DataFrame()).schema
    typed = frame.with_columns(pl.col(name).cast(schema[name]) for name in frame.columns)
    return EventBatch.of(complete(typed))


def alerts(result: StageOutputs) -> list[Alert]:
    return [output for output in result.outputs if isinstance(output, Alert)]


def test_a_user_is_scored_when_it_is_due() -> None:
    """At the first event, then at the first one ten seconds of event time later."""
    one = stage()
    scored = [one.process(generations([time_s])).scored for time_s in (0, 4, 9.9, 10, 15, 20, 90)]
    assert scored == [1, 0, 0, 1, 0, 1, 1]
    assert one.process(generations([91], "bob")).scored == 1


def test_an_event_that_is_not_asked_for_is_not_scored() -> None:
    one = stage(split_model("generations_1m", 6.0, where="tier = 'pro'"))
    assert one.process(generations([0, 30, 60])).scored == 0


def test_an_alert_takes_its_score_apart() -> None:
    found = stage().process(generations([float(second) for second in range(21)]))
    alert, _ = alerts(found)
    assert alert.time_ms == START_MS + 10_000
    assert alert.anomaly is not None
    [part] = alert.anomaly.contributions
    assert (part.feature, part.value, part.percentile) == ("generations_1m", 11.0, 100.0)
    assert alert.anomaly.rank == 0.99
    total = alert.anomaly.baseline + part.contribution + alert.anomaly.rest
    assert total == pytest.approx(alert.anomaly.score, abs=1e-12)
    assert alert.summary.startswith("Unlike the others: generations_1m 11 (above 100 %, +")
    assert alert.anomaly.degraded == ()
    assert found.anomalous == 2


def test_a_model_whose_data_is_old_is_said_to_be_degraded() -> None:
    old = replace(WATCHFUL, trained_to_ms=START_MS - 40 * DAY_MS)
    [alert] = alerts(stage(old).process(generations([float(second) for second in range(15)])))
    assert alert.anomaly is not None
    assert alert.anomaly.degraded == ("too old: its data ended 40 days ago, 30 at most",)


def test_without_a_model_rules_on_its_columns_are_silent() -> None:
    one = stage(None)
    found = one.process(generations([float(second) for second in range(100)]))
    assert (found.scored, alerts(found), found.rule_errors) == (0, [], {})
    assert one.models == ""


def test_a_challenger_is_scored_beside_and_changes_nothing_else() -> None:
    events = generations([float(second) for second in range(60)])
    wary = split_model("generations_1m", 25.0, name="fedcba9876543210")
    alone, beside = stage().process(events), stage(WATCHFUL, wary).process(events)
    assert [alert.alert_id for alert in alerts(alone)] == [a.alert_id for a in alerts(beside)]
    assert beside.disagreed == {"champion": 2, "challenger": 0}


@pytest.mark.parametrize("seed", range(5))
def test_scores_do_not_depend_on_batches(seed: int) -> None:
    """Outputs and state, with drift watched closely and models that disagree."""
    watchful = split_model("generations_1h", 8.0)
    wary = split_model("generations_1h", 12.0, name="fedcba9876543210")
    batch = EventBatch.of(random_events(seed, 3_000, 25, spacing_ms=4_000))
    chance = random.Random(seed)
    whole, parts = stage(watchful, wary), stage(watchful, wary)
    for one in (whole, parts):
        one.anomalies._drift.least_rows, one.anomalies._drift.filling_hours = 3, 0
    expected = whole.process(batch)
    cuts = sorted(chance.sample(range(1, len(batch)), 40))
    results = [parts.process(part) for part in batch.split(cuts)]
    outputs = [output for result in results for output in result.outputs]
    assert any(isinstance(output, Alert) and output.anomaly for output in expected.outputs)
    assert any(isinstance(o, Alert) and o.rule_id == MODEL_DRIFT for o in expected.outputs)
    assert msgspec.json.encode(outputs) == msgspec.json.encode(expected.outputs)
    assert state_digest(parts) == state_digest(whole)
    assert sum(result.scored for result in results) == expected.scored
    disagreed = [sum(result.disagreed[who] for result in results) for who in expected.disagreed]
    assert disagreed == list(expected.disagreed.values())


def test_a_restored_stage_scores_with_the_model_of_its_state() -> None:
    """Not with the one that is current now."""
    before = stage()
    before.process(generations([0, 1, 2]))
    snapshot = before.snapshot(full=True)
    after = UserStage(PACK, 1_000, models=FixedModels(ModelPair(WATCHFUL)))
    assert after.models == ""
    after.restore(snapshot.layout, snapshot.changed)
    assert after.models == "0123456789abcdef+"
    assert after.process(generations([5])).scored == 0
    assert after.process(generations([10])).scored == 1


def test_a_state_of_a_model_that_is_not_here_is_refused() -> None:
    snapshot = stage().snapshot(full=True)
    without = UserStage(PACK, 1_000)
    with pytest.raises(StateError, match=r"model 0123456789abcdef\+, which is not here"):
        without.restore(snapshot.layout, snapshot.changed)


@pytest.mark.parametrize(
    ("features", "where", "message"),
    [
        (("generations_1n",), "true", "unknown column 'generations_1n'"),
        (("tier",), "true", "'tier' is no number"),
        (("generations_1m",), "tier", "boolean"),
        (("generations_1m",), "nobody = 1", "nobody"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(
    features: tuple[str, ...], where: str, message: str
) -> None:
    with pytest.raises(PackError, match=message):
        check_plan(ScoringPlan(features, where, 60_000), PACK.scored_schema)
