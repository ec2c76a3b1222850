"""Every kind of attack does what its name says, and is labelled event by event."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from detectors.fingerprint import signature_similarity
from monitor.simulator import (
    DEFAULT_START_MS,
    Scenario,
    Simulation,
    builtin_scenarios,
    load_scenario,
    simulate,
)
from monitor.simulator.attacks.kinds import ATTACK_KINDS

USERS = 60
DAY_MS = 86_400_000
REQUESTED = pl.col("type") == "generation.requested"
SHARED = pl.col("type") == "share.created"

Play = Callable[..., pl.DataFrame]


def _attack(kind: str, **parameters: object) -> Simulation:
    """A single attack of ``kind`` from minute one on, in two hours of little other traffic."""
    entry = {"kind": kind, "start_s": 60, **parameters}
    scenario = Scenario.model_validate({"name": "test", "attacks": [entry]})
    return simulate(scenario, seed=9, users=USERS, minutes=120)


@pytest.fixture(scope="module")
def play() -> Play:
    """The events of one attack of a kind."""
    played: dict[str, pl.DataFrame] = {}

    def events_of(kind: str, **parameters: object) -> pl.DataFrame:
        key = f"{kind} {parameters}"
        if key not in played:
            run = _attack(kind, **parameters)
            played[key] = run.events.join(run.labels.drop("user_id"), on="event_id")
        return played[key]

    return events_of


def _cv(times_ms: pl.Series) -> float:
    gaps = np.diff(times_ms.to_numpy())
    return float(gaps.std() / gaps.mean())


def _most_in(times_ms: pl.Series, width_ms: int) -> int:
    times = times_ms.sort().to_list()
    return max(sum(1 for t in times if start <= t < start + width_ms) for start in times)


@pytest.mark.parametrize("kind", ATTACK_KINDS)
def test_the_events_of_an_attack_are_labelled_and_no_others(kind: str) -> None:
    """Attackers are accounts of their own: all they do is the attack, and all of it is labelled."""
    run = simulate(load_scenario(kind), seed=2, users=USERS, minutes=60)
    assert run.labels["attack_kind"].unique().to_list() == [kind]
    assert sorted(run.labels["attack_id"].unique()) == [f"{kind}-1", f"{kind}-2"]
    attackers = run.actors["user_id"]
    assert attackers.n_unique() == run.actors.height
    by_attackers = run.events.filter(pl.col("user_id").is_in(attackers.implode()))
    assert by_attackers["event_id"].to_list() == run.labels["event_id"].to_list()
    assert by_attackers["user_id"].to_list() == run.labels["user_id"].to_list()


@pytest.mark.parametrize("kind", ATTACK_KINDS)
def test_attacks_leave_the_honest_traffic_as_it_is(kind: str) -> None:
    """With and without an attack the same people do the same: only event ids count on."""
    with_attack = _attack(kind)
    honest = with_attack.events.join(with_attack.labels, on="event_id", how="anti")
    alone = simulate(Scenario(name="alone"), seed=9, users=USERS, minutes=120).events
    assert honest.drop("event_id").equals(alone.drop("event_id"))


@pytest.mark.parametrize("name", ["all-attacks", "demo"])
def test_scenarios_for_everybody_have_every_kind(name: str) -> None:
    run = simulate(load_scenario(name), seed=1, users=2_500)
    assert set(run.labels["attack_kind"]) == set(ATTACK_KINDS)


def test_in_the_demo_several_attacks_begin_within_the_first_minute_and_come_back() -> None:
    """Who watches for a minute has seen misuse found."""
    run = simulate(load_scenario("demo"), seed=1)
    in_first_minute = run.actors.filter(pl.col("first_ms") < DEFAULT_START_MS + 60_000)
    assert in_first_minute["attack_kind"].n_unique() >= 7
    rounds = run.actors.group_by("attack_kind").agg(pl.col("attack_id").n_unique())
    assert (rounds["attack_id"] >= 2).sum() >= 10


def test_there_is_a_scenario_for_every_kind() -> None:
    others = {"baseline", "demo", "all-attacks", "unnamed"}
    assert set(ATTACK_KINDS) | others == set(builtin_scenarios())


def test_instances_of_an_attack_differ(play: Play) -> None:
    """Three bots are three accounts on three devices with prompts of their own."""
    bots = play("burst-bot", count=3, within_s=30, duration_minutes=1)
    assert bots["attack_id"].n_unique() == 3
    by_bot = bots.group_by("attack_id").agg(pl.col("user_id", "device_id", "ip").unique())
    for name in ("user_id", "device_id", "ip"):
        assert by_bot[name].explode().n_unique() == 3
    requests = bots.filter(REQUESTED)
    assert requests["prompt_fingerprint"].n_unique() == requests.height


def test_attacks_recur(play: Play) -> None:
    floods = play("share-flood", every_s=1_800, duration_minutes=1)
    starts = floods.group_by("attack_id").agg(pl.col("time_ms").min()).sort("time_ms")["time_ms"]
    assert starts.len() == 4
    assert (starts.diff().drop_nulls() - 1_800_000).abs().to_numpy().max() < 10_000


def test_a_burst_bot_outruns_hands(play: Play) -> None:
    requests = play("burst-bot").filter(REQUESTED)
    assert requests["user_id"].n_unique() == 1
    assert _most_in(requests["time_ms"], 60_000) >= 38
    assert _cv(requests["time_ms"]) < 0.2


def test_a_slow_drip_stays_below_limits_like_clockwork(play: Play) -> None:
    requests = play("slow-drip").filter(REQUESTED)
    assert _most_in(requests["time_ms"], 60_000) <= 2
    assert requests.height > 70
    assert _cv(requests["time_ms"]) < 0.1


def test_guard_probing_is_blocked_with_ever_new_prompts(play: Play) -> None:
    events = play("guard-probing")
    blocked = events.filter(pl.col("type") == "generation.blocked")
    assert events["user_id"].n_unique() == 1
    assert blocked.height > 0.6 * events.filter(REQUESTED).height
    assert blocked["prompt_fingerprint"].n_unique() == blocked.height


def test_a_likeness_campaign_asks_for_the_same_few_people(play: Play) -> None:
    events = play("likeness-campaign")
    assert events["likeness_of"].null_count() == 0
    assert events["likeness_of"].n_unique() == 2
    assert events["user_id"].n_unique() == 3
    assert events.filter(REQUESTED).group_by("user_id").len()["len"].to_list() == [25, 25, 25]


def test_a_share_flood_reaches_hundreds_of_targets(play: Play) -> None:
    shares = play("share-flood").filter(SHARED)
    assert shares["user_id"].n_unique() == 1
    assert shares["target_id"].n_unique() == shares.height > 200
    assert shares["asset_id"].n_unique() == 4


def test_provenance_stripping_strips_manifest_and_watermark(play: Play) -> None:
    shares = play("provenance-stripping").filter(SHARED)
    stripped = shares.filter(~pl.col("c2pa_present"))
    assert stripped.height > 0.85 * shares.height
    assert set(stripped["c2pa_state"]) == {"stripped", "missing"}
    assert set(stripped["watermark"]) == {"missing", "damaged"}
    assert stripped["digital_source_type"].null_count() == stripped.height
    assert set(shares["channel"]) == {"external", "link"}
    assert shares["url"].null_count() == 0


def test_a_taken_over_account_slept_long_and_wakes_up_elsewhere(play: Play) -> None:
    events = play("account-takeover")
    assert events["user_id"].n_unique() == 1
    asleep_ms = events["time_ms"] - events["account_last_active_ms"]
    assert asleep_ms.to_numpy().min() >= 200 * DAY_MS
    assert (events["account_last_active_ms"] > events["account_created_ms"]).all()
    assert events["ip"].n_unique() == 4
    assert events["device_id"].n_unique() == 2
    assert _most_in(events.filter(REQUESTED | SHARED)["time_ms"], 60_000) > 20


@pytest.mark.parametrize("shared", ["device", "address", "both"])
def test_a_sybil_farm_shares_what_it_says(play: Play, shared: str) -> None:
    events = play("sybil-farm", shared=shared)
    assert events["user_id"].n_unique() == 40
    assert events["device_id"].n_unique() == (40 if shared == "address" else 1)
    assert events["ip"].n_unique() == (40 if shared == "device" else 1)
    ages_ms = events["time_ms"] - events["account_created_ms"]
    assert ages_ms.to_numpy().min() > 0
    assert ages_ms.to_numpy().max() < 0.3 * DAY_MS
    assert events["account_last_active_ms"].null_count() == events.height


def test_a_template_campaign_varies_one_prompt(play: Play) -> None:
    requests = play("template-campaign").filter(REQUESTED)
    assert requests["user_id"].n_unique() == 12
    assert requests["prompt_fingerprint"].n_unique() == requests.height
    signatures = requests["prompt_signature"].to_list()
    pairs = pairwise(signatures)
    similar = [signature_similarity(left, right) for left, right in pairs]
    assert sum(similar) / len(similar) == pytest.approx(0.88**2, abs=0.05)
    other = play("burst-bot").filter(REQUESTED)["prompt_signature"][0]
    assert signature_similarity(signatures[0], other) < 0.1


def test_a_sharing_swarm_acts_within_seconds(play: Play) -> None:
    """Wave by wave another video, mostly the same accounts."""
    shares = play("sharing-swarm").filter(SHARED)
    waves = shares.group_by("asset_id").agg(
        pl.col("user_id").n_unique(),
        width_ms=pl.col("time_ms").max() - pl.col("time_ms").min(),
    )
    assert waves.height == 4
    assert waves["user_id"].to_numpy().min() >= 15
    assert waves["width_ms"].to_numpy().max() < 20_000
    assert shares["user_id"].n_unique() == 25
    links = shares.drop_nulls("url").group_by("asset_id").agg(pl.col("url").n_unique())
    assert links["url"].to_list() == [1, 1, 1, 1]


def test_limit_evasion_takes_turns_on_one_client(play: Play) -> None:
    requests = play("limit-evasion").filter(REQUESTED)
    assert requests["device_id"].n_unique() == requests["ip"].n_unique() == 1
    assert requests["user_id"].n_unique() == 10
    assert _most_in(requests["time_ms"], 60_000) >= 14
    for _, own in requests.group_by("user_id"):
        assert _most_in(own["time_ms"], 60_000) <= 4


def test_share_and_delete_takes_everything_down_within_a_minute(play: Play) -> None:
    events = play("share-and-delete")
    removed = events.filter(pl.col("type") == "share.removed")
    pairs = removed.join(events.filter(SHARED), on="asset_id", suffix="_shared")
    assert pairs.height == removed.height == 25
    visible_ms = pairs["time_ms"] - pairs["time_ms_shared"]
    assert visible_ms.to_numpy().min() > 0
    assert visible_ms.to_numpy().max() <= 60_000


def test_a_scrape_views_far_more_than_eyes_can(play: Play) -> None:
    events = play("scrape")
    assert (events["type"] == "share.viewed_burst").all()
    assert events["asset_id"].n_unique() == events.height == 60
    assert events["view_count"].to_numpy().min() >= 300


def test_cost_abuse_asks_for_the_dearest(play: Play) -> None:
    requests = play("cost-abuse").filter(REQUESTED)
    assert requests.select("model", "resolution", "duration_s").unique().height == 1
    assert requests["resolution"][0] == "2160p"
    assert requests["cost"].sum() > 40_000


def test_report_bombing_hits_one_honest_user(play: Play) -> None:
    reports = play("report-bombing")
    assert (reports["type"] == "report.filed").all()
    assert reports["user_id"].n_unique() == reports.height == 40
    assert reports["subject_user_id"].n_unique() == 1
    assert reports["reason"].n_unique() == 1
    assert reports["subject_user_id"][0] not in set(reports["user_id"])
