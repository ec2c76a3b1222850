"""What the worker tells whoever measures it: the hooks, and the ones that do nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from monitor.checkpoint.partition import CheckpointObserver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitor.pipeline import PipelineResult

__all__ = ["IgnoringObserver", "WorkerObserver"]


class WorkerObserver(CheckpointObserver, Protocol):
    """Called in the worker's event loop: return at once, never raise."""

    def assigned(self, partitions: int) -> None:
        """The worker now runs this many partitions (of each input topic)."""

    def chunk_received(self, topic: str, partition: int, records: int) -> None:
        """A chunk arrived."""

    def acknowledged(self, received_ms: Sequence[int]) -> None:
        """What came of records is acknowledged; the log received them at these times."""

    def chunk_processed(self, partition: int, result: PipelineResult, elapsed_s: float) -> None:
        """``process`` gave ``result`` after ``elapsed_s``; its outputs are acknowledged."""

    def dead_letter(self, topic: str, reason: str) -> None:
        """A record of the input ``topic`` went to the dead letters, and is acknowledged there."""

    def published(self, topic: str, messages: int, elapsed_s: float) -> None:
        """The broker acknowledged messages on ``topic``."""

    def publish_failed(self, attempt: int, error: Exception) -> None:
        """An attempt to publish failed; it is repeated or the worker stops."""

    def lag(self, topic: str, partition: int, records: int) -> None:
        """Records of an input partition that are not applied yet, about once a second."""

    def held_back(self, topic: str, partition: int, events: int) -> None:
        """Events that wait to be merged, about once a second."""


class IgnoringObserver:
    """Hooks that do nothing."""

    def acknowledged(self, received_ms: Sequence[int]) -> None:
        """Ignore."""

    def assigned(self, partitions: int) -> None:
        """Ignore."""

    def chunk_received(self, topic: str, partition: int, records: int) -> None:
        """Ignore."""

    def chunk_processed(self, partition: int, result: PipelineResult, elapsed_s: float) -> None:
        """Ignore."""

    def dead_letter(self, topic: str, reason: str) -> None:
        """Ignore."""

    def published(self, topic: str, messages: int, elapsed_s: float) -> None:
        """Ignore."""

    def publish_failed(self, attempt: int, error: Exception) -> None:
        """Ignore."""

    def lag(self, topic: str, partition: int, records: int) -> None:
        """Ignore."""

    def held_back(self, topic: str, partition: int, events: int) -> None:
        """Ignore."""

    def checkpoint_written(
        self, partition: int, *, elapsed_s: float, blocks: int, stored_bytes: int
    ) -> None:
        """Ignore."""

    def restored(self, partition: int, *, elapsed_s: float, rows: int, replayed: int) -> None:
        """Ignore."""
