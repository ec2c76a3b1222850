"""What a stage after that of users tells whoever measures it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitor.kafka.observer import IgnoringObserver

if TYPE_CHECKING:
    from monitor.metrics import Metrics
    from monitor.pipeline import PipelineResult

__all__ = ["StageObserver"]


class StageObserver(IgnoringObserver):
    """The hooks of one stage; its partitions are called ``STAGE-N``, beside those of users.

    How many of them are assigned is that of users as well: each worker runs all stages.
    """

    def __init__(self, metrics: Metrics, stage: str) -> None:
        self._metrics = metrics
        self._stage = stage

    def _name(self, partition: int) -> str:
        return f"{self._stage}-{partition}"

    def chunk_processed(self, partition: int, result: PipelineResult, elapsed_s: float) -> None:
        """A partition made ``result``, and its outputs are safe."""
        self._metrics.chunk_processed(self._name(partition), result, elapsed_s)

    def dead_letter(self, topic: str, reason: str) -> None:
        """A message went to the dead letters."""
        self._metrics.dead_letter(topic, reason)

    def published(self, topic: str, messages: int, elapsed_s: float) -> None:
        """The broker acknowledged messages."""
        self._metrics.published(topic, messages, elapsed_s)

    def publish_failed(self, attempt: int, error: Exception) -> None:
        """An attempt to publish failed."""
        self._metrics.publish_failed(attempt, error)

    def lag(self, topic: str, partition: int, records: int) -> None:
        """Messages that are not applied yet."""
        self._metrics.lag(topic, partition, records, stage=self._stage)

    def checkpoint_written(
        self, partition: int, *, elapsed_s: float, blocks: int, stored_bytes: int
    ) -> None:
        """A checkpoint is valid."""
        self._metrics.checkpoint_written(
            self._name(partition), elapsed_s=elapsed_s, blocks=blocks, stored_bytes=stored_bytes
        )

    def restored(self, partition: int, *, elapsed_s: float, rows: int, replayed: int) -> None:
        """State was restored."""
        self._metrics.restored(
            self._name(partition), elapsed_s=elapsed_s, rows=rows, replayed=replayed
        )
