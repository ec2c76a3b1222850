"""Damages records at random and counts what becomes of each."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Final

import msgspec

from detectors.compiled import compile_pack
from detectors.topology import Topology
from monitor.packs import load_pack
from monitor.pipeline import PartitionPipeline, RecordChunk
from monitor.simulator.wire_json import to_wire_json
from tests.support.events import random_events
from tests.support.malformed import malformed_records

__all__ = ["FuzzResult", "damaged_records", "fuzz"]

_CHUNK_RECORDS: Final = 5_000
_GOOD_EVERY: Final = 10
_RECEIVED_MS: Final = 1_790_000_000_000
_SOURCES: Final = ("generation", "sharing", "feedback")
_ODD_VALUES: Final = (
    b"null", b"true", b"-1", b"1e400", b"NaN", b"99999999999999999999", b'""', b'"\\ud800"', b"{}",
    b"[[]]", b'"x"', b"0.1", b"-0", b'"\xff"', b'{"user_id":1}',
)  # fmt: skip


@dataclass(slots=True)
class FuzzResult:
    """``records`` went in; each must be one of the others. ``whole`` of them were undamaged."""

    records: int = 0
    whole: int = 0
    processed: int = 0
    late: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    wrong_offsets: int = 0

    @property
    def unaccounted(self) -> int:
        """Records that are neither processed nor late nor a dead letter (or are twice)."""
        return abs(self.records - self.processed - self.late - self.dead_letters.total())


def fuzz(records: int, seed: int, say: Callable[[str], None]) -> FuzzResult:
    """Put ``records`` records through a fresh pipeline of the default pack."""
    pipeline = PartitionPipeline(Topology(compile_pack(load_pack("default")), 4_096), _SOURCES)
    damaged = damaged_records(seed)
    whole = cycle(_whole_records(seed))
    result = FuzzResult()
    next_offset = dict.fromkeys(_SOURCES, 0)
    expected: set[tuple[str, int]] = set()
    for number, source in enumerate(cycle(_SOURCES)):
        count = min(_CHUNK_RECORDS, records - result.records)
        if not count:
            break
        values: list[bytes | None] = list(islice(damaged, count))
        values[::_GOOD_EVERY] = islice(whole, len(values[::_GOOD_EVERY]))
        start = next_offset[source]
        next_offset[source] += count
        offsets = list(range(start, start + count))
        expected.update((source, offset) for offset in offsets)
        pipeline.push(RecordChunk(source, 0, values, offsets, [_RECEIVED_MS] * count))
        result.records += count
        result.whole += len(values[::_GOOD_EVERY])
        _apply(pipeline, result, expected)
        if number % 20 == 0:
            say(f"{result.records:,} of {records:,} records")
    return result


def _apply(pipeline: PartitionPipeline, result: FuzzResult, expected: set[tuple[str, int]]) -> None:
    applied = pipeline.process(_SOURCES, _CHUNK_RECORDS)
    result.processed += applied.counts.events.total()
    result.late += applied.counts.late
    for letter in applied.dead_letters:
        result.dead_letters[letter.reason] += 1
        result.wrong_offsets += (letter.source, letter.offset) not in expected
        expected.discard((letter.source, letter.offset))
    for source, offset in list(expected):
        if offset < applied.applied[source]:
            expected.discard((source, offset))


def damaged_records(seed: int) -> Iterator[bytes | None]:
    """An endless stream: listed kinds of damage, and records with bytes or fields spoilt."""
    chance = random.Random(seed)
    whole = _whole_records(seed)
    listed = cycle(malformed_records(2_000))
    while True:
        record = chance.choice(whole)
        how = chance.random()
        if how < 0.2:
            yield next(listed)
        elif how < 0.4:
            yield _with_other_value(record, chance)
        elif how < 0.6:
            yield _with_other_bytes(record, chance)
        elif how < 0.8:
            yield record[: chance.randrange(len(record))]
        else:
            start, end = sorted(chance.choices(range(len(record)), k=2))
            yield record[:start] + record[end:]


def _whole_records(seed: int) -> list[bytes]:
    events = random_events(seed, 400, 50, late_share=0)
    return [text.encode() for text in to_wire_json(events).to_list()]


def _with_other_bytes(record: bytes, chance: random.Random) -> bytes:
    changed = bytearray(record)
    for _ in range(chance.randint(1, 4)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _with_other_value(record: bytes, chance: random.Random) -> bytes:
    """One field, of the event or of a part of it, has another value, or is there twice."""
    event = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
    name = chance.choice(sorted(event))
    event[name] = msgspec.Raw(chance.choice(_ODD_VALUES))
    text = msgspec.json.encode(event)
    return text[:-1] + b',"time":1}' if chance.random() < 0.1 else text
