"""A stage of the chain as a world has it: its group, its changelog, and what works on it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from detectors.state import state_digest
from monitor.pipeline import PartitionPipeline
from monitor.shared_pipeline import GroupPipeline, SharedPipeline

if TYPE_CHECKING:
    import random

    from detectors.topology import Topology
    from monitor.kafka.settings import WorkerSettings
    from tests.simulation.app import Surroundings
    from tests.simulation.history import History, Steps

__all__ = [
    "RealPipeline",
    "RowPipeline",
    "SimulatedStage",
    "new_pipeline",
    "pipeline_digest",
    "row_pipeline",
]

RowPipeline: TypeAlias = SharedPipeline | GroupPipeline
RealPipeline: TypeAlias = PartitionPipeline | RowPipeline


@dataclass
class SimulatedStage:
    """What there is once for a stage of ``partitions`` partitions.

    ``ends`` is noted when all has come to rest: by partition the steps to where it stands, and the
    digest of the state that is there (None: nobody works on it).
    """

    settings: WorkerSettings
    partitions: int
    rng: random.Random
    around: Surroundings
    history: History
    ends: dict[int, tuple[Steps, str | None]] = field(default_factory=dict)


def new_pipeline(topology: Topology, settings: WorkerSettings) -> RealPipeline:
    """The pipeline of a stage, as the composition root makes it."""
    if settings.stage == "users":
        return PartitionPipeline(topology, settings.inputs)
    return row_pipeline(topology, settings)


def row_pipeline(topology: Topology, settings: WorkerSettings) -> RowPipeline:
    """That of a stage after the first."""
    (topic,) = settings.inputs
    if settings.stage == "shared":
        return SharedPipeline(topology, topic)
    return GroupPipeline(topology, topic)


def pipeline_digest(pipeline: RealPipeline) -> str:
    """A digest over all that a checkpoint of a pipeline holds but the position."""
    digest = state_digest(pipeline.stage)
    if isinstance(pipeline, PartitionPipeline):
        return digest
    arrays = pipeline.merge.block().arrays
    waiting = b"".join(arrays[name].tobytes() for name in sorted(arrays))
    return digest + hashlib.blake2b(waiting, digest_size=16).hexdigest()
