"""What the default pack finds and what it leaves alone: simulated attacks, honest and real traffic.

Scenarios are seeded, so the figures are exact; the bounds leave room for changes of thresholds,
not for a rule that stopped working.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import polars as pl
import pytest

from detectors.batch import EventBatch
from detectors.compiled import CompiledPack, compile_pack
from detectors.incidents import Alert
from detectors.stages import UserStage
from monitor.packs import load_pack
from monitor.simulator import load_scenario, simulate, simulate_chunks
from tests.support.attacks import SEEN_BY_ONE_USER
from tests.support.events import complete

MAX_USERS: Final = 32_768


@pytest.fixture(scope="module")
def compiled() -> CompiledPack:
    return compile_pack(load_pack("default"))


def _alerts(stage: UserStage, events: pl.DataFrame) -> list[Alert]:
    result = stage.process(EventBatch.of(events))
    assert not result.rule_errors
    return [output for output in result.outputs if isinstance(output, Alert)]


def test_every_attack_that_one_account_shows_is_found_and_nobody_else(
    compiled: CompiledPack,
) -> None:
    """An hour of 2,000 honest users and every attack, blatant and subtle."""
    simulation = simulate(load_scenario("all-attacks"), seed=11, users=2_000)
    alerts = _alerts(UserStage(compiled, MAX_USERS), simulation.events)
    # Reports are about somebody: that account shows the attack, not those who report.
    about = simulation.events.select("event_id", "subject_user_id")
    marked = simulation.labels.join(about, on="event_id").with_columns(
        shown_by=pl.coalesce("subject_user_id", "user_id")
    )
    alerted = {alert.key for alert in alerts}
    attacks = marked.group_by("attack_kind", "attack_id", maintain_order=True).agg(
        pl.col("shown_by").unique()
    )
    found = {
        attack_id: bool(alerted & set(accounts))
        for kind, attack_id, accounts in attacks.iter_rows()
        if kind in SEEN_BY_ONE_USER
    }
    kinds = set(attacks["attack_kind"])
    assert kinds >= SEEN_BY_ONE_USER
    missed = [attack_id for attack_id, is_found in found.items() if not is_found]
    assert len(missed) <= 1, f"of {len(found)}: {missed}"
    assert alerted <= set(marked["shown_by"]), "somebody honest"


def test_blatant_attacks_are_found_within_minutes(compiled: CompiledPack) -> None:
    """From the first event of the attack to the first alert, in event time."""
    for name, allowed_s in (("burst-bot", 60), ("share-flood", 120), ("guard-probing", 240)):
        simulation = simulate(load_scenario(name), seed=3, users=200, minutes=15)
        first = simulation.actors.row(0, named=True)
        stage = UserStage(compiled, MAX_USERS)
        times_ms = [
            alert.time_ms
            for alert in _alerts(stage, simulation.events)
            if alert.key == first["user_id"]
        ]
        assert min(times_ms) - first["first_ms"] <= 1_000 * allowed_s, name


def test_honest_traffic_is_quiet(compiled: CompiledPack) -> None:
    """2,000 users for ten hours: power users, marketing teams, carrier NAT, viral videos."""
    stage = UserStage(compiled, MAX_USERS)
    chunks = simulate_chunks(load_scenario("baseline"), seed=12, users=2_000, minutes=600)
    alerts = [alert for chunk in chunks for alert in _alerts(stage, chunk.events)]
    assert len(stage.keys) > 1_000
    assert not alerts, [alert.summary for alert in alerts]


@pytest.mark.parametrize("name", ["code", "conv"])
@pytest.mark.parametrize("account_age_days", [0.2, 200.0])
def test_real_generation_traffic_raises_no_alert(
    compiled: CompiledPack, data_dir: Path, name: str, account_age_days: float
) -> None:
    """The arrival times of a real service (AzurePublicDataset), by 400 users of any plan."""
    trace = pl.read_csv(data_dir / f"AzureLLMInferenceTrace_{name}.csv", try_parse_dates=True)
    times_ms = trace["TIMESTAMP"].cast(pl.Datetime("ms")).sort().dt.epoch("ms")
    for seed in range(5):
        rng = np.random.default_rng(seed)
        users = rng.integers(0, 400, len(trace))
        plans = rng.choice(compiled.pack.limits.tiers, 400)
        events = pl.DataFrame(
            {
                "event_id": [f"e{i}" for i in range(len(trace))],
                "time_ms": times_ms,
                "type": "generation.requested",
                "user_id": [f"u{user}" for user in users],
                "tier": plans[users],
                "ip": [f"a{user % 40}" for user in users],
                "device_id": [f"d{user}" for user in users],
                "prompt_fingerprint": [f"p{i}" for i in range(len(trace))],
                "account_created_ms": times_ms[0] - round(86_400_000 * account_age_days),
                "cost": trace["GeneratedTokens"].cast(pl.Float64) / 10.0,
            },
            schema_overrides={"account_created_ms": pl.Int64},
        )
        alerts = _alerts(UserStage(compiled, MAX_USERS), complete(events))
        assert not alerts, [alert.summary for alert in alerts]
