"""What the worker needs of a pipeline: the detection of one partition, fed chunk by chunk."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from monitor.checkpoint.contract import Position, Restorable
from monitor.pipeline import PipelineResult, RecordChunk
from monitor.trace_messages import Outgoing

__all__ = ["Pipeline"]


class Pipeline(Restorable, Protocol):
    """The detection of one partition number over all sources (``monitor.pipeline`` has ours).

    One task uses it, from one thread.
    """

    @property
    def wanted_models(self) -> str:
        """The name of the models that should score from now on."""

    @property
    def models(self) -> str:
        """The name of the models that score."""

    def use_models(self, name: str) -> None:
        """Score with the models of this name from the next event on."""

    def idle_traces(self) -> Outgoing | None:
        """What to tell the stage of shared keys when there is nothing to do for the moment."""

    def push(self, chunk: RecordChunk) -> None:
        """Decode and buffer."""

    def buffered(self, source: str) -> int:
        """Events of ``source`` that wait to be merged."""

    def process(
        self, idle_sources: Collection[str], limit: int, bound: Position | None = None
    ) -> PipelineResult:
        """Merge by event time and detect, at most ``limit`` events.

        A source whose buffer is empty holds the merge back unless it is in ``idle_sources``.
        With a ``bound``, nothing at or beyond it is taken, and every source is waited for until
        it was pushed up to there.
        """
