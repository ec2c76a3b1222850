"""``floodwatch worker`` and ``floodwatch topics``: composition of what runs on Kafka."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from detectors.compiled import compile_pack
from detectors.errors import PackError
from detectors.topology import Topology
from monitor.checkpoint.partition import CheckpointSettings
from monitor.failpoints import FAILPOINT_VARIABLE, failpoint_from
from monitor.failures import USAGE, stop_on
from monitor.health import Health, PortTakenError, serve_metrics
from monitor.heap import map_large_arrays
from monitor.kafka.errors import KafkaShellError
from monitor.kafka.library_logs import quiet_libraries
from monitor.kafka.settings import WorkerSettings
from monitor.kafka.stage_observer import StageObserver
from monitor.kafka.topics import TopicNames
from monitor.kafka.topics_command import TopicsTarget, topics_command
from monitor.kafka.worker import Worker, stopped_by_signals
from monitor.kafka.workers import Workers
from monitor.metrics import Metrics
from monitor.models.errors import ModelError
from monitor.models.loading import RegistryModels
from monitor.models.opening import open_models
from monitor.options import ConfigOption, MetricsPortOption, PackOption
from monitor.packs import load_pack
from monitor.pipeline import PartitionPipeline, warm_up
from monitor.settings_sources import ConfigurationError, load_settings
from monitor.shared_pipeline import GroupPipeline, SharedPipeline
from monitor.version import program_version

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from monitor.config import KafkaSettings, Settings
    from monitor.failpoints import Failpoint

__all__ = ["topics", "worker"]

_BEAT_S: Final = 1.0
_COLLECT_AFTER_OBJECTS: Final = 50_000


def worker(
    brokers: Annotated[
        str | None,
        typer.Option(help="host:port, several separated by commas. [default: 127.0.0.1:9092]"),
    ] = None,
    group: Annotated[str | None, typer.Option(help="Consumer group. [default: floodwatch]")] = None,
    instance_id: Annotated[
        str | None, typer.Option(help="Static membership: a name that survives restarts.")
    ] = None,
    metrics_port: MetricsPortOption = None,
    pack: PackOption = None,
    config: ConfigOption = None,
) -> None:
    """Run the detection on Kafka topics as a member of a consumer group, until SIGTERM or Ctrl-C.

    Alerts, incidents and decisions go to their topics; what cannot be used goes to the dead
    letters. Start as many as there are partitions.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    quiet_libraries()
    with stop_on(ConfigurationError, exit_code=USAGE):
        settings = load_settings(
            {
                "pack": pack,
                "kafka": {"brokers": brokers, "group": group, "instance_id": instance_id},
                "metrics": {"port": metrics_port},
            },
            config=config,
            environ=os.environ,
        )
    with (
        stop_on(PackError, exit_code=USAGE),
        stop_on(KafkaShellError, ModelError, PortTakenError),
    ):
        asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    """Run one worker with its metrics until a signal or a failure."""
    map_large_arrays()
    compiled = compile_pack(load_pack(settings.pack))
    models = open_models(settings.models.registry, settings.models.public_key, compiled)
    topology = Topology(compiled, settings.runner.max_users, models=models)
    warm_up(topology)
    # What lives now lives on: the collector need not look at it again. And events come and go by
    # the thousand without cycles, so that looking after every 700 objects finds nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS, 10, 10)
    worker_settings = _worker_settings(settings.kafka)
    metrics = Metrics(
        version=program_version(),
        pack=topology.pack.pack,
        clock=time.monotonic,
        delay_s=lambda time_ms: time.time() - time_ms / 1_000,
    )
    names = worker_settings.topics
    metrics.reads(names.inputs, (names.traces, names.meetings))

    failpoint = failpoint_from(os.environ.get(FAILPOINT_VARIABLE, ""))
    running = Workers(_stages(worker_settings, topology, metrics, failpoint))
    health = Health(
        time.monotonic, lambda: "" if running.ready else "partitions are not assigned yet"
    )
    background = [_beat(health)]
    if isinstance(models, RegistryModels):
        background.append(_refresh(models, settings.models.refresh_s))
    if not settings.metrics.enabled:
        await _until_signalled(running, background)
        return
    with serve_metrics(
        metrics.registry, health, host=settings.metrics.host, port=settings.metrics.port
    ) as server:
        logging.getLogger(__name__).info("metrics on %s/metrics", server.address)
        await _until_signalled(running, background)


def _stages(
    settings: WorkerSettings, topology: Topology, metrics: Metrics, failpoint: Failpoint
) -> list[Worker]:
    """A worker for each stage of the topology."""

    def users(partition: int) -> PartitionPipeline:
        pipeline = PartitionPipeline(topology, settings.topics.inputs)
        metrics.watch_stage(partition, pipeline.stage)
        return pipeline

    def shared(partition: int) -> SharedPipeline:
        pipeline = SharedPipeline(topology, settings.topics.traces)
        metrics.watch_stage(f"shared-{partition}", pipeline.stage)
        return pipeline

    def groups(partition: int) -> GroupPipeline:
        pipeline = GroupPipeline(topology, settings.topics.meetings)
        metrics.watch_stage(f"groups-{partition}", pipeline.stage)
        return pipeline

    workers = [Worker(settings, users, metrics, failpoint)]
    if topology.pack.shared is not None:
        of_shared, of_groups = replace(settings, stage="shared"), replace(settings, stage="groups")
        workers += [
            Worker(of_shared, shared, StageObserver(metrics, "shared"), failpoint),
            Worker(of_groups, groups, StageObserver(metrics, "groups"), failpoint),
        ]
    return workers


async def _until_signalled(
    running: Workers, background: Sequence[Coroutine[None, None, None]]
) -> None:
    """Run the worker until SIGTERM or SIGINT, and what goes on beside it as long."""
    tasks = [asyncio.create_task(work) for work in background]
    try:
        with stopped_by_signals(running):
            await running.run()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _beat(health: Health) -> None:
    while True:
        health.beat()
        await asyncio.sleep(_BEAT_S)


async def _refresh(models: RegistryModels, every_s: float) -> None:
    """Look for another champion or challenger now and then; partitions take it over by then."""
    while True:
        await asyncio.sleep(every_s)
        if await asyncio.to_thread(models.refresh):
            logging.getLogger(__name__).info("models now: %s", models.current.name or "none")


def _worker_settings(kafka: KafkaSettings) -> WorkerSettings:
    return WorkerSettings(
        brokers=tuple(kafka.brokers.split(",")),
        group=kafka.group,
        instance_id=kafka.instance_id or None,
        topics=_topic_names(kafka),
        session_timeout_s=kafka.session_timeout_s,
        checkpoint=CheckpointSettings(
            interval_s=kafka.checkpoint_interval_s, share=kafka.checkpoint_share
        ),
        standby_replicas=kafka.standby_replicas,
        max_chunk_records=kafka.chunk_records,
        merge_wait_ms=kafka.merge_wait_ms,
    )


def _topic_names(kafka: KafkaSettings) -> TopicNames:
    return TopicNames(**kafka.topics.model_dump())


@dataclass(slots=True)
class _ConfigFile:
    """The file that ``floodwatch topics --config`` names, for the commands under it."""

    path: Path | None = None

    def target(self) -> TopicsTarget:
        with stop_on(ConfigurationError, exit_code=USAGE):
            kafka = load_settings(config=self.path, environ=os.environ).kafka
        return TopicsTarget(tuple(kafka.brokers.split(",")), _topic_names(kafka), kafka.group)


def _topics() -> typer.Typer:
    file = _ConfigFile()
    app = topics_command(file.target)

    @app.callback()
    def options(config: ConfigOption = None) -> None:
        file.path = config

    return app


topics: Final = _topics()
"""``floodwatch topics create|check|list``."""
