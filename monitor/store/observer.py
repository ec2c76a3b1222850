"""What whoever writes to the store tells about it; ``monitor.store_metrics`` listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from monitor.store.store import Written

__all__ = ["IgnoringStoreObserver", "StoreObserver"]


class StoreObserver(Protocol):
    """Methods return at once; they are called from the thread that writes or that detects."""

    def wrote(self, written: Written, entries: int, elapsed_s: float) -> None:
        """A batch of ``entries`` is in the database."""
        ...

    def failed(self) -> None:
        """The database did not answer; the batch is kept and tried again."""
        ...

    def waiting(self, queued: int, spooled: int, spooled_bytes: int) -> None:
        """So many outputs wait in memory, so many on disk."""
        ...

    def dropped(self, count: int) -> None:
        """The spool is full: so many outputs are lost to the store."""
        ...

    def unreadable(self, topic: str) -> None:
        """A message that is none of our outputs was put aside."""
        ...

    def lag(self, topic: str, partition: int, records: int) -> None:
        """So many messages of a partition are not stored yet."""
        ...

    def assigned(self, partitions: int) -> None:
        """This many partitions are ours now."""
        ...

    def pruned(self, rows: Mapping[str, int]) -> None:
        """What was removed for its age, by table."""
        ...


class IgnoringStoreObserver:
    """Listens to nothing."""

    def wrote(self, written: Written, entries: int, elapsed_s: float) -> None:
        pass

    def failed(self) -> None:
        pass

    def waiting(self, queued: int, spooled: int, spooled_bytes: int) -> None:
        pass

    def dropped(self, count: int) -> None:
        pass

    def unreadable(self, topic: str) -> None:
        pass

    def lag(self, topic: str, partition: int, records: int) -> None:
        pass

    def assigned(self, partitions: int) -> None:
        pass

    def pruned(self, rows: Mapping[str, int]) -> None:
        pass
