"""Recovery: how long a new worker takes until it has the state of many users again.

Every user acts once; a worker processes that and stops, which leaves a checkpoint. Then a second
worker is started in the same group, and timed from the outside: from the start of the process
(and from its first answer to a scrape) to the scrape of its metrics that shows all users.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from confluent_kafka import Producer

from bench.errors import BenchError
from bench.process import failure, launch
from bench.worker import scrape, stop
from monitor.kafka.topics import TopicNames, create_topics, declare_topics
from tests.kafka import KafkaBroker
from tests.servers import free_port

__all__ = ["measure_recovery"]

_PARTITIONS: Final = 4
_DEADLINE_S: Final = 900.0
_INTERVAL_S: Final = 0.1
_SPARE: Final = 1.02  # users are not spread over the partitions quite evenly
_EVENTS: Final = re.compile(r"^floodwatch_events_total\{.*\} (\S+)$", re.MULTILINE)
_RESTORED: Final = re.compile(r"^floodwatch_restored_rows_total (\S+)$", re.MULTILINE)


def measure_recovery(users: int, core: int, say: Callable[[str], None]) -> dict[str, float]:
    """Seconds until the state of ``users`` is there again. Raises BenchError."""
    names, group = TopicNames(), f"bench-recovery-{uuid.uuid4().hex[:8]}"
    with KafkaBroker() as broker, tempfile.TemporaryDirectory(prefix="floodwatch-bench-") as folder:
        specs = declare_topics(names, group=group, partitions=_PARTITIONS)
        create_topics([broker.bootstrap], specs)
        say(f"loading an event of each of {users:,} users")
        _produce(broker.bootstrap, names.generation_events, range(users))
        command = [sys.executable, "-m", "monitor", "worker", "--brokers", broker.bootstrap]
        command += ["--group", group]
        environment = {"FLOODWATCH_RUNNER__MAX_USERS": str(int(users / _PARTITIONS * _SPARE) + 100)}
        log, port = Path(folder) / "first.log", free_port()
        started = [*command, "--metrics-port", str(port)]
        with launch(started, log, core, environment) as process:
            _wait(lambda: _shown(port, _EVENTS) >= users, log)
            stop(process, log)
        # Each partition restores when its first event arrives; every user has a checkpointed row.
        _produce(broker.bootstrap, names.generation_events, range(1_000))
        log, port = Path(folder) / "second.log", free_port()
        started = [*command, "--metrics-port", str(port)]
        start_s = time.monotonic()
        with launch(started, log, core, environment) as process:
            _wait(lambda: scrape(port) is not None, log)
            up_s = time.monotonic() - start_s
            _wait(lambda: _shown(port, _RESTORED) >= users, log)
            restored_s = time.monotonic() - start_s
            restored = _shown(port, _RESTORED)
            stop(process, log)
    if restored != users:
        raise BenchError(f"{restored:,} rows were restored instead of {users:,}")
    return {"recovery_s": restored_s, "recovery_without_start_s": restored_s - up_s}


def _produce(bootstrap: str, topic: str, users: range) -> None:
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "compression.type": "zstd",
            "linger.ms": 50,
            "acks": "all",
            "enable.idempotence": True,
            "queue.buffering.max.messages": 100_000,
        }
    )
    now_ms = time.time_ns() // 1_000_000
    for user in users:
        event = {
            "event_id": uuid.uuid4().hex,
            "type": "generation.requested",
            "time": now_ms,
            "user_id": f"user-{user}",
            "account": {"created_at": 0, "tier": "free"},
            "client": {"ip": "192.0.2.1", "device_id": f"device-{user}"},
            "generation": {"request_id": f"request-{user}", "model": "video-1"},
        }
        while True:
            try:
                producer.produce(topic, msgspec.json.encode(event), f"user-{user}")
                break
            except BufferError:  # The queue is full: let some of it go out.
                producer.poll(0.1)
        producer.poll(0)
    if waiting := producer.flush(60.0):
        raise BenchError(f"{waiting} events were not acknowledged in time")


def _shown(port: int, pattern: re.Pattern[str]) -> int:
    return sum(int(float(value)) for value in pattern.findall(scrape(port) or ""))


def _wait(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise failure(f"not within {_DEADLINE_S:.0f} s", log)
        time.sleep(_INTERVAL_S)
