"""Meetings: which traces are sent on, what goes with them, and that partners keep their trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl

from detectors.expressions import parse
from detectors.keys import KeyTable, hash_strings
from detectors.meetings import meeting_schema, meetings
from detectors.pack import TraitSpec
from detectors.rings import RingOutputs, Rings
from detectors.shared import Trait
from detectors.swarms import Swarms

_START_MS: Final = 1_800_000_000_000


def touching(traces: list[tuple[str, str, float]]) -> pl.DataFrame:
    """Traces given by key, user and second."""
    return pl.DataFrame(
        {
            "space": np.ones(len(traces), dtype=np.uint8),
            "key": [key for key, _, _ in traces],
            "time_ms": [_START_MS + int(1_000 * second) for _, _, second in traces],
            "event_id": [f"event-{at}" for at in range(len(traces))],
            "user_id": [user for _, user, _ in traces],
        }
    )


def met(
    frame: pl.DataFrame,
    first_ordinal: int = 0,
    *,
    named: bool = True,
    traits: Sequence[Trait] = (),
) -> tuple[pl.DataFrame, RingOutputs]:
    """The meetings of traces on keys that nobody touched before, and what the rings found."""
    times_ms = frame["time_ms"].to_numpy()
    hashes, actors = hash_strings(frame["key"]), hash_strings(frame["user_id"])
    rows, fresh = KeyTable(100).rows(hashes)
    names = dict(zip(actors.tolist(), frame["user_id"].to_list(), strict=True)) if named else {}
    ring = Rings(100).apply(times_ms, rows, fresh, actors)
    groups = np.zeros(len(frame), dtype=np.int32)
    swarm = Swarms(100, 1).apply(times_ms, rows, fresh, groups, ring)
    order_ms = np.maximum.accumulate(times_ms)
    founder_ids = [names.get(founder) for founder in ring.founders.tolist()]
    founders = pl.Series(founder_ids, dtype=pl.String)
    sent = meetings(frame, order_ms, hashes, actors, ring, swarm, founders, traits, first_ordinal)
    return sent, ring


def test_only_keys_with_an_audience_are_told_of() -> None:
    """Most keys have one visitor: nothing of them is sent. The second one brings the first."""
    sent, _ = met(
        touching(
            [("a", "u1", 0), ("b", "u2", 1), ("a", "u1", 2), ("a", "u3", 3), ("a", "u4", 500)]
        ),
        first_ordinal=70,
    )
    assert dict(sent.schema) == meeting_schema(())
    assert sent["event_id"].to_list() == ["event-3", "event-4"]
    assert sent["ordinal"].to_list() == [70, 71]
    assert sent["founder_id"].to_list() == ["u1", None]
    assert (sent["founder"] != 0).to_list() == [True, False]
    assert sent["founder"][0] == hash_strings(pl.Series(["u1"]))[0]
    # Nobody was there within a minute of the last one, who is exposed all the same.
    u1 = int(hash_strings(pl.Series(["u1"]))[0])
    assert sent["partners"].to_list() == [[u1], []]
    assert sent["partner_ms"].to_list() == [[_START_MS + 2_000], []]


def test_what_actors_are_and_how_many_touched_the_key_goes_with_them() -> None:
    traces = touching([("a", "u1", 0), ("b", "u2", 1), ("a", "u3", 2), ("a", "u4", 3)])
    frame = traces.with_columns(blocks=pl.Series([5, 5, 0, 5]))
    where = parse("blocks > 2", dict(frame.schema), "boolean")
    traits = [Trait(TraitSpec("blocked", "blocks > 2", "were blocked"), where)]
    sent, _ = met(frame, traits=traits)
    assert dict(sent.schema) == meeting_schema(traits)
    assert sent["trait_blocked"].to_list() == [False, True]
    assert sent["audience"].to_list() == [2, 3]


def test_a_founder_whose_name_is_gone_is_told_as_a_hash() -> None:
    sent, _ = met(touching([("a", "u1", 0), ("a", "u2", 1)]), named=False)
    assert sent["founder_id"].to_list() == [None]
    assert sent["founder"].to_list() == hash_strings(pl.Series(["u1"])).tolist()


def test_partners_stay_with_the_trace_that_met_them() -> None:
    """Of random traces on few keys, with rows without any partner in between."""
    rng = np.random.default_rng(4)
    seconds = np.cumsum(rng.choice([1.0, 90.0], 600, p=[0.9, 0.1]))
    keys, users = rng.integers(0, 40, 600), rng.integers(0, 25, 600)
    traces = zip(keys.tolist(), users.tolist(), seconds.tolist(), strict=True)
    frame = touching([(f"k{key}", f"u{user}", second) for key, user, second in traces])
    sent, ring = met(frame)
    by_trace: dict[int, list[tuple[int, int]]] = {}
    found = zip(ring.positions, ring.partners, ring.partner_ms, strict=True)
    for position, partner, partner_ms in found:
        by_trace.setdefault(int(position), []).append((int(partner), int(partner_ms)))
    lists = zip(sent["partners"].to_list(), sent["partner_ms"].to_list(), strict=True)
    told = [list(zip(partners, times_ms, strict=True)) for partners, times_ms in lists]
    at = [int(event.removeprefix("event-")) for event in sent["event_id"]]
    assert told == [by_trace.get(position, []) for position in at]
    assert set(by_trace) <= set(at)
    assert 0 < sum(not partners for partners in told) < len(told)
    assert sent["crowd"].to_list() == ring.crowd[at].tolist()
    assert sent["chance"].to_list() == ring.chance[at].tolist()


def test_no_meetings_are_a_frame_of_the_same_columns() -> None:
    sent, _ = met(touching([("a", "u1", 0), ("b", "u2", 1)]))
    assert sent.is_empty()
    assert dict(sent.schema) == meeting_schema(())
