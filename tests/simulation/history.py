"""Which steps the state that counts was made by: noted from outside, at pipelines and commits.

A task begins where the group's committed offsets stand, and takes steps: positions up to which
the sources were merged and detected, with these models or those. Only an accepted commit makes
steps count for whoever comes next, so the steps behind the committed offsets are known without
reading their metadata.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from detectors.state import Restored, StateBlock
    from monitor.checkpoint.contract import PipelineSnapshot
    from monitor.pipeline import PipelineResult, RecordChunk
    from monitor.trace_messages import Outgoing
    from tests.simulation.group import Commit
    from tests.simulation.loop import Process
    from tests.simulation.stage import RealPipeline

__all__ = ["History", "HistoryError", "RecordedPipeline", "Step", "Steps"]

Position: TypeAlias = dict[str, int]


class Step(NamedTuple):
    """Where the sources were merged up to, and the models that were taken to before, in order."""

    position: Position
    switches: tuple[str, ...] = ()


Steps: TypeAlias = tuple[Step, ...]


class HistoryError(Exception):
    """Something was committed that nobody did."""


class RecordedPipeline:
    """A real pipeline, of which is noted where it stands after each step, and what it switched to.

    It is a pipeline as the worker needs one.
    """

    def __init__(
        self, real: RealPipeline, partition: int, process: Process, history: History
    ) -> None:
        self.real = real
        self.partition = partition
        self.worker = process
        self.history = history
        self.generation = 0
        self.before: Steps = ()
        self.stands_at: Position = {}
        self._steps: list[Step] = []
        self._switched: tuple[str, ...] = ()
        self._snapshots: dict[int, Step] = {}

    @property
    def steps(self) -> Steps:
        """All that led to where it stands."""
        return self._led_to(len(self._steps), Step(self.stands_at, self._switched))

    def steps_of_checkpoint(self, position: Position) -> Steps | None:
        """All that led to its checkpoint at ``position``; None if it made none there."""
        for taken, at in self._snapshots.items():
            if at.position == position:
                return self._led_to(taken, at)
        return None

    def _led_to(self, taken: int, at: Step) -> Steps:
        return (*self.before, *self._steps[:taken], *((at,) if at.switches else ()))

    def restore(
        self,
        position: Mapping[str, int],
        merged_ms: Mapping[str, int],
        state: tuple[dict[str, Any], Iterable[StateBlock]] | None,
    ) -> Restored:
        restored = self.real.restore(position, merged_ms, state)
        if self.worker.alive:
            self.stands_at = {**self.history.beginning(self.partition), **position}
            self.before = self.history.steps_to(self, self.stands_at)
        return restored

    def process(
        self, idle_sources: Collection[str], limit: int, bound: Mapping[str, int] | None = None
    ) -> PipelineResult:
        result = self.real.process(idle_sources, limit, bound)
        stands_at = {**self.stands_at, **result.applied}
        if self.worker.alive and stands_at != self.stands_at:
            self.stands_at = stands_at
            self._steps.append(Step(stands_at, self._switched))
            self._switched = ()
        return result

    def use_models(self, name: str) -> None:
        self.real.use_models(name)
        self._switched = (*self._switched, name)

    def snapshot(self) -> PipelineSnapshot:
        self._snapshots[len(self._steps)] = Step(self.stands_at, self._switched)
        return self.real.snapshot()

    @property
    def wanted_models(self) -> str:
        return self.real.wanted_models

    @property
    def models(self) -> str:
        return self.real.models

    def idle_traces(self) -> Outgoing | None:
        return self.real.idle_traces()

    def push(self, chunk: RecordChunk) -> None:
        self.real.push(chunk)

    def buffered(self, source: str) -> int:
        return self.real.buffered(source)


@dataclass
class History:
    """The steps that count, by partition. ``beginning`` gives where its sources begin."""

    beginning: Callable[[int], Position]
    _tasks: dict[tuple[str, int, int], RecordedPipeline] = field(default_factory=dict)
    _committed: dict[int, list[tuple[Position, Steps]]] = field(default_factory=dict)
    _newest: dict[int, RecordedPipeline] = field(default_factory=dict)
    checkpoints: int = 0

    def working(self, process: Process, generation: int, pipeline: RecordedPipeline) -> None:
        """A process works on a partition in a generation."""
        pipeline.generation = generation
        self._tasks[process.name, generation, pipeline.partition] = pipeline
        newest = self._newest.get(pipeline.partition)
        if newest is None or newest.generation <= generation:  # a zombie may begin late
            self._newest[pipeline.partition] = pipeline

    def at_work(self, partition: int) -> RecordedPipeline | None:
        """What works on a partition now: the newest generation's task, if its process lives."""
        newest = self._newest.get(partition)
        return newest if newest is not None and newest.worker.alive else None

    def committed(self, commit: Commit) -> None:
        """The group accepted a commit; called whenever it does."""
        position = {**self.beginning(commit.partition)}
        position.update({topic: entry.offset for topic, entry in commit.offsets.items()})
        if position == self._at(commit.partition)[-1][0]:
            return
        task = self._tasks[commit.process, commit.generation, commit.partition]
        steps = task.steps_of_checkpoint(position)
        if steps is None:
            raise HistoryError(f"{commit} commits {position}, where {task.steps} had none")
        self._committed.setdefault(commit.partition, self._at(commit.partition)).append(
            (position, steps)
        )
        self.checkpoints += 1

    def steps_to(self, pipeline: RecordedPipeline, position: Position) -> Steps:
        """The steps behind the committed ``position``, which a task begins at.

        It is the newest, but for a task that was frozen while it was told and has a successor.
        """
        committed = self._at(pipeline.partition)
        if self._newest[pipeline.partition].generation == pipeline.generation:
            committed = committed[-1:]
        found = [steps for known, steps in committed if known == position]
        if not found:
            raise HistoryError(f"restored at {position}, committed is {committed[-1][0]}")
        return found[-1]

    def stands_at(self, partition: int) -> Position:
        """Where whatever works on a partition stands; if nothing does, what is committed."""
        task = self.at_work(partition)
        return self._at(partition)[-1][0] if task is None else task.stands_at

    def committed_steps(self, partition: int) -> Steps:
        """The steps behind what is committed."""
        return self._at(partition)[-1][1]

    def _at(self, partition: int) -> list[tuple[Position, Steps]]:
        """What was committed, the newest last."""
        return self._committed.get(partition, [(self.beginning(partition), ())])
