"""Honest traffic: people on their plans, at their hours, with the tails that people have."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from monitor.simulator import DEFAULT_START_MS, load_scenario, simulate
from monitor.simulator.vocabulary import REGIONS

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MIDNIGHT_MS = DEFAULT_START_MS - 9 * HOUR_MS


@pytest.fixture(scope="module")
def day() -> pl.DataFrame:
    """A Monday of 4,000 accounts, midnight to midnight UTC."""
    run = simulate(
        load_scenario("baseline"), seed=11, users=4_000, minutes=1_440, start_ms=MIDNIGHT_MS
    )
    assert run.labels.height == 0
    return run.events


def _most_within(events: pl.DataFrame, period: str, by: str = "user_id") -> pl.DataFrame:
    """The most events within ``period`` of each ``by``."""
    moments = events.with_columns(moment=pl.from_epoch("time_ms", time_unit="ms"))
    return (
        moments.sort("moment")
        .rolling("moment", period=period, group_by=by)
        .agg(pl.len().alias("events"))
        .group_by(by)
        .agg(pl.col("events").max())
    )


def test_nights_are_quiet_in_every_time_zone(day: pl.DataFrame) -> None:
    """By people's own clocks; countries that span several are left out."""
    clocks: dict[str, set[float]] = {}
    for region in REGIONS:
        clocks.setdefault(region.country, set()).add(region.utc_offset_h)
    offsets_ms = {
        country: int(offsets.pop() * HOUR_MS)
        for country, offsets in clocks.items()
        if len(offsets) == 1
    }
    offset_ms = pl.col("country").replace_strict(offsets_ms)
    local = day.filter(pl.col("country").is_in(list(offsets_ms))).with_columns(
        hour=(pl.col("time_ms") + offset_ms) // HOUR_MS % 24
    )
    night = local.filter(pl.col("hour").is_between(2, 4)).height
    evening = local.filter(pl.col("hour").is_between(18, 20)).height
    assert night < 0.35 * evening


@pytest.mark.parametrize(
    ("tier", "in_minute", "in_hour"),
    [("unverified", 6, 20), ("free", 7, 60), ("plus", 9, 110), ("pro", 14, 240)],
)
def test_people_generate_no_faster_than_people(
    day: pl.DataFrame, tier: str, in_minute: int, in_hour: int
) -> None:
    """Most wait for the video before they ask for the next."""
    requests = day.filter(pl.col("type") == "generation.requested", pl.col("tier") == tier)
    assert _most_within(requests, "1m")["events"].to_numpy().max() <= in_minute
    assert _most_within(requests, "1h")["events"].to_numpy().max() <= in_hour


def test_some_people_generate_a_great_deal(day: pl.DataFrame) -> None:
    """Heavy users exist, on the plans for them: who alerts on volume alone alerts on customers."""
    requests = day.filter(pl.col("type") == "generation.requested")
    counts = requests.group_by("user_id", "tier").len().sort("len", descending=True)
    assert counts["len"][0] > 200
    assert set(counts.head(5)["tier"]) <= {"pro", "enterprise"}
    assert np.median(counts["len"].to_numpy()) < 25


def test_daily_quotas_hold(day: pl.DataFrame) -> None:
    requests = day.filter(pl.col("type") == "generation.requested")
    counts = requests.group_by("user_id", "tier").len()
    for tier, quota in {"unverified": 20, "free": 60, "plus": 250}.items():
        assert counts.filter(pl.col("tier") == tier)["len"].to_numpy().max() <= quota


def test_people_are_irregular_and_pipelines_are_not(day: pl.DataFrame) -> None:
    """Within sessions: the coefficient of variation of the time between generations."""
    requests = day.filter(pl.col("type") == "generation.requested").sort("user_id", "time_ms")
    gaps = requests.with_columns(gap=pl.col("time_ms").diff().over("session_id")).drop_nulls("gap")
    spread = gaps.group_by("session_id", "app_version").agg(
        pl.len(), cv=pl.col("gap").std() / pl.col("gap").mean()
    )
    long_enough = spread.filter(pl.col("len") >= 20)
    is_software = pl.col("app_version") == "api-2.4.0"
    assert long_enough.filter(~is_software)["cv"].to_numpy().min() > 0.3
    assert np.median(long_enough.filter(~is_software)["cv"].to_numpy()) > 0.6
    assert day.filter(is_software)["tier"].unique().to_list() == ["enterprise"]


def test_every_request_has_one_outcome_some_seconds_later(day: pl.DataFrame) -> None:
    """Except those that the end of the run cut off."""
    requested = day.filter(pl.col("type") == "generation.requested")
    outcome = day.filter(
        pl.col("type").is_in(["generation.completed", "generation.blocked", "generation.failed"])
    )
    assert outcome["request_id"].n_unique() == outcome.height
    pairs = requested.join(outcome, on="request_id", how="left", suffix="_outcome")
    waited = pairs["time_ms_outcome"] - pairs["time_ms"]
    assert waited.drop_nulls().to_numpy().min() > 0
    assert waited.drop_nulls().to_numpy().max() <= 300_000
    unanswered = pairs.filter(pl.col("time_ms_outcome").is_null())
    assert (unanswered["time_ms"] >= MIDNIGHT_MS + DAY_MS - 300_000).all()
    answered = pairs.drop_nulls("time_ms_outcome")
    for name in ("user_id", "prompt_fingerprint", "model", "cost"):
        assert (answered[name] == answered[f"{name}_outcome"]).all()
    slow = waited.filter(pairs["type_outcome"] == "generation.completed")
    assert 5_000 < np.median(slow.to_numpy()) < 60_000


def test_the_guard_rarely_stops_honest_people(day: pl.DataFrame) -> None:
    """A few per cent are flagged or blocked, with a category and a high score; nobody is probed."""
    judged = day.drop_nulls("guard_decision")
    shares = dict(judged["guard_decision"].value_counts(normalize=True).iter_rows())
    assert 0.005 < shares["block"] < 0.04
    assert 0.01 < shares["flag"] < 0.06
    blocked = judged.filter(pl.col("guard_decision") == "block")
    assert (blocked["type"] == "generation.blocked").all()
    assert blocked["guard_category"].null_count() == 0
    assert blocked["guard_score"].to_numpy().min() >= 0.75
    assert _most_within(blocked, "10m")["events"].to_numpy().max() < 10


def test_sessions_stay_on_one_device_and_address(day: pl.DataFrame) -> None:
    """And belong to one person."""
    names = ("user_id", "device_id", "ip", "app_version")
    moderators = day.filter(pl.col("type").is_in(["verdict.given", "appeal.decided"]))["user_id"]
    sessions = day.filter(~pl.col("user_id").is_in(moderators.implode())).group_by("session_id")
    distinct = sessions.agg(pl.col(names).n_unique())
    assert distinct.height > 1_000
    assert all((distinct[name] == 1).all() for name in names)


def test_many_people_share_the_addresses_of_carriers(day: pl.DataFrame) -> None:
    """An address with a hundred users is a carrier's NAT; most homes have one or two."""
    people = day.group_by("ip").agg(pl.col("user_id").n_unique())["user_id"]
    assert people.to_numpy().max() > 60
    assert np.median(people.to_numpy()) <= 2
    assert np.quantile(people.to_numpy(), 0.8) <= 4
    assert day["ip"].str.contains(r"^2(4[0-9]|5[0-5])(\.\d{1,3}){3}$|^2001:db8:").all()


def test_a_viral_video_is_shared_by_many_different_people_over_time(day: pl.DataFrame) -> None:
    """What a swarm must not be mistaken for."""
    shares = day.filter(pl.col("type") == "share.created")
    counts = shares.group_by("asset_id").agg(
        pl.col("user_id").n_unique(),
        pl.col("country").n_unique(),
        span_ms=pl.col("time_ms").max() - pl.col("time_ms").min(),
        age_days=((pl.col("time_ms") - pl.col("account_created_ms")) / DAY_MS).median(),
    )
    viral = counts.sort("user_id", descending=True).row(0, named=True)
    assert viral["user_id"] > 80
    assert viral["country"] > 8
    assert viral["span_ms"] > 4 * HOUR_MS
    assert viral["age_days"] > 60


def test_provenance_is_normally_there(day: pl.DataFrame) -> None:
    shares = day.filter(pl.col("type") == "share.created")
    assert shares["c2pa_present"].to_numpy().mean() > 0.95
    assert (shares["watermark"] == "present").to_numpy().mean() > 0.97
    assert 0 < (shares["c2pa_state"] == "stripped").sum() < 0.01 * shares.height
    has_manifest = shares["c2pa_state"].is_in(["trusted", "valid", "invalid"])
    assert (has_manifest == shares["c2pa_present"]).all()
    assert (shares["digital_source_type"].is_not_null() == shares["c2pa_present"]).all()


def test_accounts_exist_before_they_act(day: pl.DataFrame) -> None:
    """They were active before, or never; some sign up in the course of the day."""
    assert (day["account_created_ms"] < day["time_ms"]).all()
    known = day.drop_nulls("account_last_active_ms")
    assert (known["account_last_active_ms"] <= known["time_ms"]).all()
    assert (known["account_last_active_ms"] > known["account_created_ms"]).all()
    joined = day.filter(pl.col("account_created_ms") > MIDNIGHT_MS)
    assert 0.005 < joined["user_id"].n_unique() / day["user_id"].n_unique() < 0.05
    away = (pl.col("time_ms") - pl.col("account_last_active_ms")) > 60 * DAY_MS
    assert day.filter(away)["user_id"].n_unique() > 0


def test_reports_get_a_verdict_and_appeals_a_decision(day: pl.DataFrame) -> None:
    """By a moderator, later, about the same user."""
    counts = dict(day["type"].value_counts().iter_rows())
    assert counts["report.filed"] > 10
    assert counts["appeal.filed"] > 10
    answers = day.filter(pl.col("type").is_in(["verdict.given", "appeal.decided"]))
    assert answers["verdict"].null_count() == 0
    assert answers["subject_user_id"].null_count() == 0
    questions = day.filter(pl.col("type").is_in(["report.filed", "appeal.filed"]))
    assert set(answers["subject_user_id"]) <= set(questions["subject_user_id"])
    assert not set(answers["user_id"]) & set(questions["user_id"])
    appeals = day.filter(pl.col("type") == "appeal.filed")
    assert (appeals["subject_user_id"] == appeals["user_id"]).all()


def test_only_what_was_made_or_found_is_shared_and_removed(day: pl.DataFrame) -> None:
    """A removal follows a share of the same video by the same user."""
    removed = day.filter(pl.col("type") == "share.removed")
    shared = day.filter(pl.col("type") == "share.created")
    assert removed.height > 20
    first = shared.group_by("user_id", "asset_id").agg(first_ms=pl.col("time_ms").min())
    pairs = removed.join(first, on=["user_id", "asset_id"], how="left")
    assert pairs["first_ms"].null_count() == 0
    assert (pairs["time_ms"] > pairs["first_ms"]).all()
