"""The order in which the sources of a partition were merged, kept where the group keeps offsets.

Between two *cuts* (positions) the events taken are one merge by event time of what lies between
them, so a cut is needed only where an event was taken after one that should have followed it.
Kafka keeps at most 4,096 bytes of metadata with an offset: each source's metadata holds its own
share of every cut, as the distance from the cut before.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from monitor.checkpoint.contract import CommittedOffset
from monitor.checkpoint.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from monitor.checkpoint.contract import Position

__all__ = ["METADATA_BYTES", "Progress", "TakenOrder", "parse_committed"]

METADATA_BYTES: Final = 4_096  # Kafka's offset.metadata.max.bytes, by default
_FORMAT: Final = 3
_READ_FORMATS: Final = (1, 2, _FORMAT)
"""1: before there were models to switch between; 2: before runs had names."""
_MAX_SWITCHES: Final = 2
_ROOM_BYTES: Final = 500  # for what is not cuts


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """What is committed with the offset of one source; numbers count from that offset."""

    format: int
    checkpoint: str | None
    published: int
    cuts: str
    switches: tuple[tuple[int, str], ...] = ()
    lineage: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What a group has committed for a partition.

    ``checkpoint`` is the id of the checkpoint at ``position``, None before the first one.
    ``cuts`` follow it in order; what lies before ``published`` has been published. ``switches``
    are the models that were taken to from then on, each with how many cuts precede it. ``lineage``
    names the run since the partition last started without state.
    """

    position: Position
    checkpoint: str | None = None
    published: Position | None = None
    cuts: tuple[Position, ...] = ()
    switches: tuple[tuple[int, str], ...] = ()
    lineage: str | None = None


class TakenOrder:
    """The cuts since the newest valid checkpoint, and what of it is published."""

    def __init__(self, progress: Progress, lineage: str = "") -> None:
        self.lineage = progress.lineage or lineage
        self.base: dict[str, int] = dict(progress.position)
        self.checkpoint = progress.checkpoint
        self._published: dict[str, int] = dict(progress.published or {})
        self._cuts: list[dict[str, int]] = [dict(cut) for cut in progress.cuts]
        self._switches = list(progress.switches)
        self._closed = True

    @property
    def position(self) -> dict[str, int]:
        """How far the sources were taken."""
        return dict(self._cuts[-1]) if self._cuts else dict(self.base)

    def begins(self, source: str, offset: int) -> None:
        """Note where the log of a source began that had nothing before."""
        self.base.setdefault(source, offset)

    def took(self, position: Position, *, in_order: bool) -> None:
        """Note that the sources were taken up to ``position``.

        ``in_order`` says that no event taken now should have gone before one taken earlier.
        """
        taken = {**self.position, **position}
        if taken == self.position:
            return
        if in_order and not self._closed:
            self._cuts[-1] = taken
        else:
            self._cuts.append(taken)
        self._closed = False

    def switched(self, models: str) -> None:
        """Note that what comes next is scored with other models."""
        self._switches.append((self.close(), models))

    @property
    def may_switch(self) -> bool:
        """Whether there is room to note another switch before the next checkpoint."""
        return len(self._switches) < _MAX_SWITCHES

    def close(self) -> int:
        """End the present stretch, so that a checkpoint can stand here; how many cuts precede."""
        self._closed = True
        return len(self._cuts)

    def rebase(self, checkpoint: str, cuts: int) -> None:
        """Start from ``checkpoint``, which stands after the first ``cuts`` cuts."""
        if cuts:
            self.base.update(self._cuts[cuts - 1])
        self.checkpoint = checkpoint
        del self._cuts[:cuts]
        # One right at the checkpoint stays: its state may be from before.
        self._switches = [(at - cuts, models) for at, models in self._switches if at >= cuts]

    def publish(self) -> None:
        """Note that all outputs up to the present position are acknowledged."""
        self._published = self.position

    @property
    def moved(self) -> bool:
        """Whether anything was taken since the checkpoint."""
        return bool(self._cuts)

    @property
    def fill(self) -> float:
        """How much of the room for cuts is used, 0 to 1 and beyond."""
        longest = max((len(self._encoded(source)) for source in self.base), default=0)
        return longest / (METADATA_BYTES - _ROOM_BYTES)

    def committed(self) -> dict[str, CommittedOffset]:
        """What to commit now, by source."""
        offsets = {}
        for source, base in self.base.items():
            metadata = _Metadata(
                format=_FORMAT,
                checkpoint=self.checkpoint,
                published=max(0, self._published.get(source, base) - base),
                cuts=self._encoded(source),
                switches=tuple(self._switches),
                lineage=self.lineage or None,
            )
            text = msgspec.json.encode(metadata).decode()
            if len(text) > METADATA_BYTES:
                raise CheckpointError(
                    f"{len(self._cuts)} cuts of {source} do not fit into an offset's metadata"
                )
            offsets[source] = CommittedOffset(base, text)
        return offsets

    def _encoded(self, source: str) -> str:
        at = self.base[source]
        steps = []
        for cut in self._cuts:
            steps.append(cut.get(source, at) - at)
            at += steps[-1]
        return base64.b64encode(bytes(_varints(steps))).decode()


def parse_committed(committed: Mapping[str, CommittedOffset]) -> Progress:
    """Read what ``TakenOrder.committed`` gave.

    Offsets without metadata (nobody's, or an operator's who moved the group) start without a
    checkpoint. Raises CheckpointError where the sources disagree or cannot be read.
    """
    position = {source: entry.offset for source, entry in committed.items()}
    found = {source: _decode(source, e) for source, e in committed.items() if e.metadata}
    if not found:
        return Progress(position)
    cuts = {source: _cuts(source, position[source], m.cuts) for source, m in found.items()}
    alike = {
        (m.checkpoint, len(cuts[source]), m.switches, m.lineage) for source, m in found.items()
    }
    same = len(alike) == 1
    if not same or len(found) != len(committed):
        described = "; ".join(
            f"{source}: offset {entry.offset}, metadata {entry.metadata[:80]!r}"
            for source, entry in committed.items()
        )
        raise CheckpointError(
            f"the committed offsets do not belong together ({described}); if one topic's offsets "
            "were moved by hand, move those of all input topics: detection then starts without "
            "a checkpoint"
        )
    metadata = next(iter(found.values()))
    return Progress(
        position=position,
        checkpoint=metadata.checkpoint,
        published={source: position[source] + m.published for source, m in found.items()},
        cuts=tuple(dict(zip(cuts, ends, strict=True)) for ends in zip(*cuts.values(), strict=True)),
        switches=metadata.switches,
        lineage=metadata.lineage,
    )


def _decode(source: str, entry: CommittedOffset) -> _Metadata:
    try:
        metadata = msgspec.json.decode(entry.metadata, type=_Metadata)
    except msgspec.MsgspecError as error:
        raise CheckpointError(
            f"{source}: the metadata of the committed offset is not ours ({error}): "
            f"{entry.metadata[:80]!r}; does another program commit in this group?"
        ) from error
    if metadata.format not in _READ_FORMATS:
        raise CheckpointError(
            f"{source}: the committed offset has format {metadata.format}, this version reads "
            f"{_FORMAT}; run the version that wrote it, or a newer one"
        )
    return metadata


def _cuts(source: str, base: int, encoded: str) -> list[int]:
    try:
        steps = list(_numbers(base64.b64decode(encoded, validate=True)))
    except (binascii.Error, ValueError) as error:
        raise CheckpointError(f"{source}: the cuts of the committed offset: {error}") from error
    return [base + step for step in itertools.accumulate(steps)]


def _varints(numbers: Iterable[int]) -> Iterator[int]:
    """Seven bits a byte, the lowest first; the high bit says that more follow (LEB128)."""
    for number in numbers:
        rest = number
        while rest >= 0x80:
            yield rest & 0x7F | 0x80
            rest >>= 7
        yield rest


def _numbers(data: Sequence[int]) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            yield number
            number = shift = 0
    if shift:
        raise ValueError("they break off inside a number")
