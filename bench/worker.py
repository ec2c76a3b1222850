"""Floodwatch itself: ``floodwatch worker`` as an operator runs it, timed from the outside."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Final

import yaml
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec

from bench.errors import BenchError
from bench.process import cpu_seconds, failure, launch
from bench.task import Measurement, Task
from monitor.kafka.topics import TopicNames, create_topics, declare_topics
from monitor.models.registry import Registry
from tests.servers import free_port

__all__ = [
    "measure_users_only",
    "measure_with_forest",
    "measure_without_checkpoints",
    "measure_worker",
    "scrape",
    "stop",
]

_SAMPLE_INTERVAL_S: Final = 0.2
_DEADLINE_S: Final = 300.0
_STOP_DEADLINE_S: Final = 30.0
_PROCESSED: Final = re.compile(r"^floodwatch_events_total\{.*\} (\S+)$", re.MULTILINE)
_LAG: Final = re.compile(r"^floodwatch_consumer_lag_records\{.*\} (\S+)$", re.MULTILINE)
_REFUSED: Final = re.compile(r"^floodwatch_dead_letters_total\{.*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Sample:
    """What had been processed, and the processor time used, at a moment.

    ``waiting`` are records of topics that stages have not applied yet, those between stages too.
    """

    at_s: float
    cpu_s: float
    events: int
    refused: int
    waiting: int


def measure_without_checkpoints(task: Task, core: int) -> Measurement:
    """The same, but no checkpoint is written before the last one: what checkpoints cost."""
    return measure_worker(task, core, {"FLOODWATCH_KAFKA__CHECKPOINT_INTERVAL_S": "3600"})


def measure_with_forest(task: Task, core: int) -> Measurement:
    """The same with the demo's model as champion: what scoring every active user costs."""
    folder = Path(task.folder) / "models"
    registry = Registry(folder)
    model = Path(str(resources.files("monitor.demo"))) / "model"
    registry.promote(registry.add(model), "champion")
    return measure_worker(task, core, {"FLOODWATCH_MODELS__REGISTRY": str(folder)})


def measure_users_only(task: Task, core: int) -> Measurement:
    """The same without what users do together: a pack without shared keys and rules about them."""
    folder = Path(task.folder) / "pack"
    shutil.copytree(str(resources.files("detectors") / "packs" / "default"), folder)
    (folder / "shared.yaml").unlink()
    file = folder / "rules.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    content["rules"] = [rule for rule in content["rules"] if rule.get("key", "user") == "user"]
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return measure_worker(task, core, {"FLOODWATCH_PACK": str(folder)})


def measure_worker(
    task: Task, core: int, environment: Mapping[str, str] = MappingProxyType({})
) -> Measurement:
    """Run the worker until its metrics show every event, then stop it and check its offsets.

    The clock runs from the first scrape that shows events to the first that shows them all, and
    nothing that waits between the stages.
    """
    specs = declare_topics(TopicNames(), group=task.group, partitions=task.partitions)
    create_topics([task.bootstrap], specs)
    log, port = Path(task.folder) / "log", free_port()
    # The same as ``floodwatch worker``, with all settings as they come.
    command = [sys.executable, "-m", "monitor", "worker", "--brokers", task.bootstrap]
    command += ["--group", task.group, "--metrics-port", str(port)]
    with launch(command, log, core, environment) as process:
        first = last = None
        for sample in _samples(process, port, log):
            if sample.events == 0:
                continue
            first = first or sample
            last = sample
            if sample.events + sample.refused >= task.events and not sample.waiting:
                break
        if first is None or last is None or last.events == first.events:
            raise failure("the worker was too quick to be measured: give more --events", log)
        if last.refused or last.events != task.events:
            raise failure(f"of {task.events} events the worker reports {last}", log)
        stop(process, log)
    _check_committed(task)
    events = last.events - first.events
    return Measurement(last.events, None, events, last.at_s - first.at_s, last.cpu_s - first.cpu_s)


def _samples(process: subprocess.Popen[bytes], port: int, log: Path) -> Iterator[_Sample]:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise failure(f"the worker ended with code {process.returncode}", log)
        text = scrape(port)
        if text is not None:
            processed = sum(int(float(value)) for value in _PROCESSED.findall(text))
            refused = sum(int(float(value)) for value in _REFUSED.findall(text))
            waiting = sum(int(float(value)) for value in _LAG.findall(text))
            at_s, cpu_s = time.monotonic(), cpu_seconds(process.pid)
            yield _Sample(at_s, cpu_s, processed, refused, waiting)
        time.sleep(_SAMPLE_INTERVAL_S)
    raise failure(f"the worker had not finished after {_DEADLINE_S:.0f} s", log)


def scrape(port: int) -> str | None:
    """The text of ``/metrics``; None while nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            body: bytes = answer.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None
    return body.decode()


def stop(process: subprocess.Popen[bytes], log: Path) -> None:
    """End a worker as an operator would. Raises BenchError unless it ends in order."""
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(_STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        raise failure("the worker did not end after SIGTERM", log) from None
    if code != 0:
        raise failure(f"the worker ended with code {code} after SIGTERM", log)


def _check_committed(task: Task) -> None:
    """The worker has committed every offset, so every alert was acknowledged."""
    partitions = [
        TopicPartition(topic, number) for topic in task.topics for number in range(task.partitions)
    ]
    admin = KafkaAdminClient(bootstrap_servers=task.bootstrap)
    try:
        ends = admin.list_partition_offsets(dict.fromkeys(partitions, OffsetSpec.LATEST))
        committed = admin.list_group_offsets(task.group)[task.group]
    finally:
        admin.close()
    for partition, end in ends.items():
        done = committed[partition].offset if partition in committed else 0
        if done != end.offset:
            raise BenchError(f"of {partition} the worker has committed {done}, not {end.offset}")
