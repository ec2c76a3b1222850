"""Who met whom on a shared key: sent by the stage of shared keys to that of groups.

A row is a trace on a key that somebody else has touched as well::

    ordinal     which row of its partition this is (int64)
    order_ms    how far the partition had come in event time (int64, ascending)
    space       the number of the key space in the pack, from 1 (uint8)
    key         the key
    key_hash    of the key and its space (uint64)
    time_ms     when the actor acted, in event ``event_id``
    user_id     the actor, ``actor`` as a hash (uint64)
    founder     at the trace that brings a second actor to a key: the hash of the first, else 0
    founder_id  the first actor, null where it is not known
    chance, crowd               see ``detectors.rings``
    swarm_actors, swarm_expected, swarm_score, swarming    see ``detectors.swarms``
    audience                    how many actors touched the key so far
    partners, partner_ms        the actors met, and when they acted (lists)
    trait_NAME                  whether the actor has each trait of the pack, null if not known
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from detectors.expressions import evaluate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detectors.keys import Hashes
    from detectors.rings import RingOutputs
    from detectors.shared import Trait
    from detectors.swarms import SwarmOutputs

__all__ = ["meeting_schema", "meetings"]

_SCHEMA: Final = {
    "ordinal": pl.Int64(),
    "order_ms": pl.Int64(),
    "space": pl.UInt8(),
    "key": pl.String(),
    "key_hash": pl.UInt64(),
    "time_ms": pl.Int64(),
    "event_id": pl.String(),
    "user_id": pl.String(),
    "actor": pl.UInt64(),
    "founder": pl.UInt64(),
    "founder_id": pl.String(),
    "chance": pl.Float64(),
    "crowd": pl.Float64(),
    "swarm_actors": pl.Float64(),
    "swarm_expected": pl.Float64(),
    "swarm_score": pl.Float64(),
    "swarming": pl.Boolean(),
    "audience": pl.Int64(),
    "partners": pl.List(pl.UInt64()),
    "partner_ms": pl.List(pl.Int64()),
}


def meeting_schema(traits: Sequence[Trait]) -> dict[str, pl.DataType]:
    """The columns of a frame of meetings, in order."""
    return {**_SCHEMA, **{trait.column: pl.Boolean() for trait in traits}}


def meetings(
    frame: pl.DataFrame,
    order_ms: npt.NDArray[np.int64],
    key_hashes: Hashes,
    actors: Hashes,
    ring: RingOutputs,
    swarm: SwarmOutputs,
    founder_ids: pl.Series,
    traits: Sequence[Trait],
    first_ordinal: int,
) -> pl.DataFrame:
    """The meetings among n traces in order; ``founder_ids`` (n,) are null where there is none.

    ``traits`` are computed of the columns of ``frame``.
    """
    rows = np.flatnonzero(ring.audience > 1)
    chosen = frame[["space", "key", "time_ms", "event_id", "user_id"]][rows]
    founders = ring.founders[rows]
    marked: list[pl.Series] = []
    if traits:
        named = [trait.where.expr.alias(trait.column) for trait in traits]
        marked = evaluate(frame, named)[rows].get_columns()
    starts = np.searchsorted(ring.positions, rows)
    counts = np.searchsorted(ring.positions, rows, side="right") - starts
    return chosen.with_columns(
        pl.Series("ordinal", np.arange(first_ordinal, first_ordinal + len(rows))),
        pl.Series("order_ms", order_ms[rows]),
        pl.Series("key_hash", key_hashes[rows]),
        pl.Series("actor", actors[rows]),
        pl.Series("founder", founders),
        founder_ids[rows].alias("founder_id"),
        pl.Series("chance", ring.chance[rows]),
        pl.Series("crowd", ring.crowd[rows]),
        pl.Series("swarm_actors", swarm.actors[rows]),
        pl.Series("swarm_expected", swarm.expected[rows]),
        pl.Series("swarm_score", swarm.score[rows]),
        pl.Series("swarming", swarm.swarming[rows]),
        pl.Series("audience", ring.audience[rows]),
        *_lists(ring.partners, ring.partner_ms, counts).get_columns(),
        *marked,
    ).select(list(meeting_schema(traits)))


def _lists(
    partners: Hashes, partner_ms: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> pl.DataFrame:
    """Two columns of n lists: the values in order, so many in each."""
    assert counts.sum() == len(partners), "every contact belongs to a trace that is sent"
    owner = np.repeat(np.arange(len(counts)), counts)
    joined = pl.DataFrame({"owner": owner, "partners": partners, "partner_ms": partner_ms})
    lists = joined.group_by("owner", maintain_order=True).agg("partners", "partner_ms")
    # One empty list behind those that are not, for all rows that met nobody.
    nobody = pl.DataFrame({"owner": [-1], "partners": [[]], "partner_ms": [[]]}, lists.schema)
    filled = np.cumsum(counts > 0) - 1
    return pl.concat([lists, nobody])[np.where(counts > 0, filled, len(lists))].drop("owner")
