"""The state of a stage as named blocks of arrays: what a checkpoint is made of.

A snapshot is taken between two batches. It lists the names of all blocks that make up the state
and holds copies of those that changed since the snapshot before; so the newest version of each
block, of the names in the newest snapshot, is the state. Nothing is compressed here and nothing is
pickled: what is not an array is JSON in an array of bytes.

The blocks of a stage:

- ``rows/N``: what is kept for the keys in rows ``N * block_rows`` and on, only rows in use (see
  ``detectors.state.rows``); it changes with every batch that touches one of these keys;
- ``TABLE/N``: the same of another table of keys, where a stage has more than one;
- ``incidents/N``: open incidents, at most 1,000 (see ``detectors.state.incidents``);
- ``stage``: the rest (watermark, counters), some hundred bytes.

The *layout* of a snapshot says what every column of the row arrays means. A state is restored by
meaning, never by position, so that a stage with another pack takes over what it still keeps. It
is the same from snapshot to snapshot except for ``rows``, the number of rows in use.

The arrays of a snapshot are contiguous and nobody else's, but those of several row blocks share
memory: it is freed when the last of them is.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from detectors.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DEFAULT_BLOCK_ROWS",
    "STATE_FORMAT",
    "Array",
    "Layout",
    "Restored",
    "Snapshot",
    "StateBlock",
    "Stateful",
    "check_format",
    "checked_array",
    "entry",
    "json_array",
    "json_value",
    "state_digest",
]

DEFAULT_BLOCK_ROWS: Final = 512
"""With the default pack the largest power of two of which a block fits into a Kafka message of 1 MB
even where it does not compress. Smaller blocks save nothing in a busy partition, where all of them
change between two checkpoints; they would make more messages and longer manifests."""

STATE_FORMAT: Final = 1
"""Changes when what is written cannot be read by what was there before."""

Array: TypeAlias = npt.NDArray[Any]
Layout: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StateBlock:
    """A named piece of a stage's state: contiguous arrays that belong together."""

    name: str
    arrays: dict[str, Array]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stage's state between two batches.

    ``layout`` can be JSON. ``names`` are all blocks of the state now; ``changed`` are copies of
    those that changed since the snapshot before, or since the stage was restored.
    """

    layout: Layout
    names: tuple[str, ...]
    changed: tuple[StateBlock, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of a state that a stage was given.

    ``rows`` keys were taken over. ``dropped`` are sentences for people: what did not fit, or
    starts empty. ``complete`` is False where rows are laid out otherwise than they were: the next
    snapshot then holds every block.
    """

    rows: int
    dropped: tuple[str, ...]
    complete: bool


class Stateful(Protocol):
    """What has a state that can be taken and given back."""

    def snapshot(self, *, full: bool = False) -> Snapshot:
        """The state now, with copies of the blocks that changed since the last snapshot.

        With ``full`` all blocks are copied, and what counts as changed stays as it is: the next
        snapshot holds what it would have held.
        """
        ...

    def restore(self, layout: Layout, blocks: Iterable[StateBlock]) -> Restored:
        """Take over a state; only for a stage that has done nothing yet.

        ``blocks`` are those of the snapshot's ``names``, in any order; each is read once and let
        go. With the pack and capacity that made it, the stage goes on exactly where the other
        stopped. After an error the stage is of no use.

        Raises:
            StateError: a newer format, another kind of stage, a block or an array that is
                missing or damaged.
        """
        ...


def state_digest(stage: Stateful) -> str:
    """A digest over every byte of a stage's state and its layout; it leaves the stage as it is."""
    snapshot = stage.snapshot(full=True)
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([snapshot.layout, sorted(snapshot.names)], sort_keys=True).encode())
    for block in sorted(snapshot.changed, key=lambda block: block.name):
        for name, array in sorted(block.arrays.items()):
            digest.update(f"{block.name} {name} {array.dtype.str} {array.shape};".encode())
            digest.update(array.data)
    return digest.hexdigest()


def check_format(layout: Layout, stage: str) -> None:
    """Refuse a layout that this version cannot read or that another kind of stage wrote.

    Raises:
        StateError: why, and what to do.
    """
    written = layout.get("format")
    if not isinstance(written, int):
        raise StateError("no format is given", where="layout", hint="this is no state of a stage")
    if written > STATE_FORMAT:
        raise StateError(
            f"format {written} is newer than {STATE_FORMAT}, the newest that can be read here",
            where="layout",
            hint="a newer Floodwatch wrote it: run that one, or start from an empty state",
        )
    if layout.get("stage") != stage:
        raise StateError(
            f"the state of a {layout.get('stage')!r} stage cannot become that of a {stage!r} stage",
            where="layout",
        )


def json_array(value: object) -> npt.NDArray[np.uint8]:
    """``value`` as the bytes of its JSON; the same bytes for the same value."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True)
    return np.frombuffer(text.encode(), dtype=np.uint8)


def json_value(block: StateBlock, name: str) -> Any:  # noqa: ANN401 - as JSON goes
    """The value that ``json_array`` was given.

    Raises:
        StateError: the array is missing or not JSON.
    """
    array = checked_array(block, name, np.dtype(np.uint8), None)
    try:
        return json.loads(array.tobytes())
    except ValueError as error:
        raise StateError(f"array {name!r} is not JSON: {error}", where=block.name) from error


def entry(values: Any, name: str, where: str) -> Any:  # noqa: ANN401 - as JSON goes
    """The value of ``name`` in what should be an object of JSON.

    Raises:
        StateError: it is not there.
    """
    if not isinstance(values, dict) or name not in values:
        raise StateError(f"{name!r} is missing", where=where)
    return values[name]


def checked_array(
    block: StateBlock, name: str, dtype: np.dtype[Any], shape: tuple[int, ...] | None
) -> Array:
    """An array of a block; ``shape`` None stands for any of one dimension.

    Raises:
        StateError: it is missing, or of another type or shape.
    """
    array = block.arrays.get(name)
    if array is None:
        raise StateError(
            f"array {name!r} is missing", where=block.name, hint=f"it holds {list(block.arrays)}"
        )
    if array.dtype != dtype:
        raise StateError(f"array {name!r} is {array.dtype}, not {dtype}", where=block.name)
    if array.shape != shape if shape is not None else array.ndim != 1:
        expected = "one dimension" if shape is None else str(shape)
        raise StateError(
            f"array {name!r} has shape {array.shape} instead of {expected}", where=block.name
        )
    return array
