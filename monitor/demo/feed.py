"""The simulated stream in small slices, as bytes like those of a real producer."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from monitor.simulator.wire_json import to_wire_json

if TYPE_CHECKING:
    from monitor.simulator import Chunk

__all__ = ["Slice", "Truth", "slices"]


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of the attacks in a stretch of events."""

    attack_of_event: Mapping[str, str]
    kind_of_attack: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Slice:
    """Records of a short stretch of time that ends before ``end_ms``; ``begun`` attacks in it."""

    end_ms: int
    records: list[bytes]
    truth: Truth
    begun: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Prepared:
    begin_ms: int
    end_ms: int
    times_ms: np.ndarray[tuple[int], np.dtype[np.int64]]
    records: list[bytes]
    truth: Truth
    label_times_ms: np.ndarray[tuple[int], np.dtype[np.int64]]
    label_attacks: list[str]


def slices(chunks: Iterable[Chunk], slice_ms: int) -> Generator[Slice]:
    """Cut chunks into slices of ``slice_ms``; the next chunk is made while one is handed out.

    At most two chunks are in memory: the simulator waits for the reader, never the reverse.
    """
    prepared = map(_prepare, chunks)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="simulator") as pool:
        ahead = pool.submit(next, prepared, None)
        while (chunk := ahead.result()) is not None:
            ahead = pool.submit(next, prepared, None)
            yield from _cut(chunk, slice_ms)


def _prepare(chunk: Chunk) -> _Prepared:
    labels = chunk.labels
    attacks = labels["attack_id"].to_list()
    truth = Truth(
        attack_of_event=dict(zip(labels["event_id"].to_list(), attacks, strict=True)),
        kind_of_attack=dict(zip(attacks, labels["attack_kind"].to_list(), strict=True)),
    )
    return _Prepared(
        chunk.begin_ms,
        chunk.end_ms,
        chunk.events["time_ms"].to_numpy(),
        [text.encode() for text in to_wire_json(chunk.events).to_list()],
        truth,
        chunk.label_times_ms.to_numpy(),
        attacks,
    )


def _cut(chunk: _Prepared, slice_ms: int) -> Iterator[Slice]:
    ends = [*range(chunk.begin_ms + slice_ms, chunk.end_ms, slice_ms), chunk.end_ms]
    cuts = np.searchsorted(chunk.times_ms, ends).tolist()
    label_cuts = np.searchsorted(chunk.label_times_ms, ends).tolist()
    first, first_label = 0, 0
    for end_ms, cut, label_cut in zip(ends, cuts, label_cuts, strict=True):
        begun = frozenset(chunk.label_attacks[first_label:label_cut])
        yield Slice(end_ms, chunk.records[first:cut], chunk.truth, begun)
        first, first_label = cut, label_cut
