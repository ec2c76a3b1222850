"""Traces of events: which keys, of which events, and the counts of segments."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from detectors.batch import EventBatch
from detectors.compiled import CompiledPack, compile_pack
from detectors.errors import PackError
from detectors.fingerprint import prompt_signature
from detectors.pack import Action, RuleSpec, SharedKeySpec
from monitor.packs import load_pack
from tests.support.events import START_MS
from tests.support.shared import shared_pack, traces_of

DEFAULT = compile_pack(load_pack("default"))
MINUTE_MS = 60_000


def traced(events: list[dict[str, Any]], pack: CompiledPack = DEFAULT) -> pl.DataFrame:
    """The traces of events given by some columns."""
    base = {"type": "share.created", "user_id": "u", "tier": "free", "event_id": "e"}
    rows = [{"time_ms": START_MS + 1_000 * at, **base, **event} for at, event in enumerate(events)]
    return traces_of(pack, [EventBatch.from_rows(rows)])


def keys(traces: pl.DataFrame, space: str) -> list[str]:
    assert DEFAULT.shared is not None
    number = 1 + [key.spec.name for key in DEFAULT.shared.keys].index(space)
    return traces.filter(pl.col("space") == number)["key"].to_list()


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", ["203.0.113.0/24"]),
        ("2001:db8:85a3:8d3:1319:8a2e:370:7348", ["2001:db8:85a3::/48"]),
        ("2001:DB8::1", ["2001:db8::/48"]),
        ("::ffff:203.0.113.9", ["203.0.113.0/24"]),
        ("unknown", []),
        ("", []),
        (None, []),
    ],
)
def test_a_network_is_the_24_or_48_of_an_address(address: str | None, network: list[str]) -> None:
    """What is no address has no network, and is no error."""
    assert keys(traced([{"ip": address}]), "network") == network


def test_near_duplicates_share_a_band_and_others_do_not() -> None:
    """By the signatures that producers send; what is no signature leaves no trace."""
    texts = (
        "A knight in silver armour walks through the rain at night towards a burning castle, slow",
        "A knight in silver armour walks through the rain at night towards a burning castle, fast",
        "Two otters hold hands while they float down a river in the early morning sun",
    )
    events = [
        {"type": "generation.requested", "prompt_signature": prompt_signature(t)} for t in texts
    ]
    events += [{"type": "generation.requested", "prompt_signature": s} for s in ("short", "!" * 86)]
    bands = keys(traced(events), "template")
    assert len(bands) == 12
    one, two, other = (set(bands[start : start + 4]) for start in (0, 4, 8))
    assert one & two
    assert not (one | two) & other


def test_an_event_leaves_a_trace_on_each_of_its_keys() -> None:
    """With the columns that rules of shared keys read, and where in its partition it was."""
    share = {
        "asset_id": "a",
        "asset_fingerprint": "f",
        "url": "https://x.example/v",
        "target_id": "t",
        "device_id": "d",
        "ip": "198.51.100.1",
        "tier": "pro",
    }
    traces = traced([{}, share, {"type": "share.removed", "asset_id": "a"}])
    traces = traces.filter(pl.col("space") > 0)
    assert traces["key"].to_list() == ["a", "f", "https://x.example/v", "t", "d", "198.51.100.0/24"]
    assert traces["ordinal"].to_list() == list(range(6))
    assert set(traces["order_ms"].to_list()) == {START_MS + 1_000}
    assert set(traces["tier"].to_list()) == {"pro"}


def test_minutes_are_counted_as_if_by_hand() -> None:
    """Each event in its own minute, given out once that is over and late ones are in."""
    starts = [0, 10, 59, 61, 70, 40, 95, 30, 300]
    events = [{"time_ms": START_MS // MINUTE_MS * MINUTE_MS + 1_000 * s} for s in starts]
    given = traced(events).filter(pl.col("space") == 0, pl.col("key") == "platform")
    minutes = (given["time_ms"] - START_MS // MINUTE_MS * MINUTE_MS) // MINUTE_MS
    by_minute = Counter(dict(zip(minutes.to_list(), [0] * len(given), strict=True)))
    for minute, count in zip(minutes.to_list(), given["count"].to_list(), strict=True):
        by_minute[minute] += count
    assert by_minute == {0: 5, 1: 3}
    # 95 s ends the first minute (30 s for late ones); the event of 30 s comes after that.
    assert given["ordinal"].to_list() == [0, 1, 2]
    assert given["count"].to_list() == [4, 1, 3]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": (SharedKeySpec("user", "asset_id"),)}, "shared key user: 'user' is taken"),
        ({"keys": (SharedKeySpec("a", "assetid"),)}, "did you mean 'asset_id'"),
        ({"keys": (SharedKeySpec("a", "cost"),)}, "'cost' is no text column"),
        ({"keys": (SharedKeySpec("a", "url"),) * 2}, "shared key a: 'a' is there twice"),
    ],
)
def test_shared_keys_that_cannot_be(change: dict[str, Any], message: str) -> None:
    """Refused with the entry's name."""
    pack = shared_pack()
    assert pack.shared is not None
    wrong = replace(pack, rules=(), shared=replace(pack.shared, **change))
    with pytest.raises(PackError, match=message):
        compile_pack(wrong)


def test_a_rule_needs_a_key_space_that_there_is() -> None:
    """And only rules about users decide about them."""
    rule = RuleSpec("r", "R", "actors_1h > 3", "low", 60_000, "docs/runbooks/r.md", key="assets")
    with pytest.raises(PackError, match=r"unknown key space 'assets'.*did you mean 'asset'"):
        compile_pack(replace(shared_pack(), rules=(rule,)))
    acting = replace(rule, key="asset", action=Action("block", "all", 60_000))
    with pytest.raises(PackError, match="a decision is about users"):
        compile_pack(replace(shared_pack(), rules=(acting,)))
