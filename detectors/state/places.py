"""Objects in numbered places, in blocks: which of them have to be written again.

Objects that come and go get the lowest free place, so that blocks stay full, and keep it, so that
a change of one leaves all other blocks as they are.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Places"]

T = TypeVar("T")


@dataclass(slots=True)
class Places(Generic[T]):
    """Objects at places 0, 1, ...; ``block_size`` places make a block.

    Taking a place and freeing one cost O(log n), the rest O(1).
    """

    block_size: int
    _objects: list[T | None] = field(default_factory=list)
    _free: list[int] = field(default_factory=list)
    _dirty: set[int] = field(default_factory=set)

    @property
    def count(self) -> int:
        """How many places there are, free ones included."""
        return len(self._objects)

    def take(self, thing: T) -> int:
        """Give an object the lowest free place."""
        if self._free:
            place = heapq.heappop(self._free)
            self._objects[place] = thing
        else:
            place = len(self._objects)
            self._objects.append(thing)
        self.touch(place)
        return place

    def free(self, place: int) -> None:
        """Free a place that is taken."""
        self._objects[place] = None
        heapq.heappush(self._free, place)
        self.touch(place)

    def touch(self, place: int) -> None:
        """Say that the object at a place has changed."""
        self._dirty.add(place // self.block_size)

    def touch_all(self) -> None:
        """Say that every object has changed."""
        self._dirty.update(range(-(-self.count // self.block_size)))

    def block(self, number: int) -> list[T]:
        """The objects of a block, in the order of their places."""
        return [thing for thing in self._block(number) if thing is not None]

    def used_blocks(self) -> list[int]:
        """The blocks with an object in them, ascending."""
        return [
            number
            for number in range(-(-self.count // self.block_size))
            if any(thing is not None for thing in self._block(number))
        ]

    def take_dirty(self) -> set[int]:
        """The blocks that have changed since the last call; some may be without objects now."""
        dirty, self._dirty = self._dirty, set()
        return dirty

    def restore(self, count: int, placed: Iterable[tuple[int, T]]) -> None:
        """Put objects back to their places, of which there were ``count``; nothing is dirty then.

        Raises:
            ValueError: a place that is not there, or that two objects want.
        """
        self._objects = [None] * count
        for place, thing in placed:
            if not 0 <= place < count:
                raise ValueError(f"place {place} of {count}")
            if self._objects[place] is not None:
                raise ValueError(f"two objects at place {place}")
            self._objects[place] = thing
        # Ascending, hence a heap.
        self._free = [place for place, thing in enumerate(self._objects) if thing is None]
        self._dirty = set()

    def _block(self, number: int) -> list[T | None]:
        return self._objects[number * self.block_size : (number + 1) * self.block_size]
