"""Workers on a real broker that die, hang, come back and stop while others come and go."""

from __future__ import annotations

import logging
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from monitor.checkpoint.contract import PipelineSnapshot
from monitor.checkpoint.partition import CheckpointSettings
from monitor.cloudevents import decode_event
from monitor.kafka.worker import Worker
from monitor.pipeline import RecordChunk
from tests.integration.kafka_echo import EchoPipeline
from tests.integration.kafka_harness import IGNORE_SOCKETS, Installation, running
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.waiting import wait_until

pytestmark = IGNORE_SOCKETS

_REPOSITORY = Path(__file__).parents[2]
_RECORDS = 12_000


@contextmanager
def _worker(place: Installation, log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, killed at the end if it is still there."""
    command = [sys.executable, "-m", "tests.integration.kafka_echo", "--chunk-records", "20"]
    command += ["--brokers", place.bootstrap, "--group", place.group]
    command += ["--prefix", place.names.alerts.removesuffix("alerts")]
    command += options
    with log.open("ab") as output:
        process = subprocess.Popen(command, cwd=_REPOSITORY, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _produce(place: Installation, start: int, count: int) -> None:
    topics, partitions = place.names.inputs, place.partitions
    place.produce(
        (topics[n % 3], n % partitions, b"%d:u%d" % (n, n)) for n in range(start, start + count)
    )


def _committed_records(place: Installation) -> int:
    return sum(place.committed().values())


def test_no_record_is_lost_when_workers_are_killed_and_frozen(
    kafka: KafkaBroker | ExistingBroker, tmp_path: Path
) -> None:
    """Kill -9 in the middle of work; then SIGSTOP until the group has given the partitions away.

    The one that was frozen still holds chunks of its old generation when it wakes up.
    """
    place = Installation.create(kafka.bootstrap, partitions=4)
    third = _RECORDS // 3
    with _worker(place, tmp_path / "first") as first, _worker(place, tmp_path / "second") as second:
        _produce(place, 0, third)
        wait_until(lambda: _committed_records(place) > 0, "work has begun")
        first.kill()
        wait_until(lambda: _committed_records(place) == third, "the second worker did it all")
        with _worker(place, tmp_path / "third") as replacement:
            _produce(place, third, third)
            wait_until(lambda: _committed_records(place) > third, "work goes on")
            second.send_signal(signal.SIGSTOP)
            wait_until(lambda: _committed_records(place) == 2 * third, "the third did it all")
            second.send_signal(signal.SIGCONT)
            _produce(place, 2 * third, third)
            wait_until(lambda: _committed_records(place) == 3 * third, "all is committed")
            for process in (second, replacement):
                process.terminate()
                assert process.wait(30) == 0, "a worker did not end in order"
    echoed = {decode_event(record.value).subject for record in place.read(place.names.decisions)}
    assert echoed == {f"u{n}" for n in range(_RECORDS)}


def test_a_worker_can_be_stopped_while_others_are_missing_from_a_rebalance(
    kafka: KafkaBroker | ExistingBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The group waits for the frozen one until its session is over; who wants to go may go."""
    caplog.set_level(logging.INFO, "aiokafka")
    place = Installation.create(kafka.bootstrap, partitions=2)

    with (
        running(Worker(place.settings(), lambda _: EchoPipeline(place.names.inputs))) as state,
        _worker(place, tmp_path / "frozen", "--session-timeout", "45") as frozen,
    ):
        _produce(place, 0, 2_000)
        wait_until(lambda: _committed_records(place) == 2_000, "all is committed")
        wait_until(lambda: "(generation 2)" in caplog.text, "the second one is in the group")
        frozen.send_signal(signal.SIGSTOP)
        caplog.clear()
        with _worker(place, tmp_path / "third"):
            wait_until(lambda: "(Re-)joining group" in caplog.text, "it joins again")
            state.worker.stop()
            wait_until(lambda: not state.thread.is_alive(), "it stopped", deadline_s=20)
    assert state.failure is None


def test_a_worker_that_is_stopped_in_a_rebalance_still_writes_its_last_checkpoints(
    kafka: KafkaBroker | ExistingBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Giving partitions away needs the consumer, which therefore stops after that."""

    class StopsItsWorker(EchoPipeline):
        """Whose worker is asked to stop while the last checkpoint is written."""

        def snapshot(self) -> PipelineSnapshot:
            worker.stop()
            return super().snapshot()

    place = Installation.create(kafka.bootstrap, partitions=2)
    seldom = CheckpointSettings(interval_s=3_600.0)
    pushed: list[RecordChunk] = []
    worker = Worker(
        place.settings(checkpoint=seldom),
        lambda _: StopsItsWorker(place.names.inputs, pushed.append),
    )
    with running(worker) as state:
        _produce(place, 0, 2_000)
        wait_until(lambda: sum(len(chunk.offsets) for chunk in pushed) == 2_000, "all is taken")
        with _worker(place, tmp_path / "second"):
            wait_until(lambda: not state.thread.is_alive(), "it stopped")
    assert state.failure is None
    assert "no acknowledgement" not in caplog.text


def test_a_static_worker_goes_on_after_another_had_its_name(
    kafka: KafkaBroker | ExistingBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes back into the same generation of the group, which nobody else has left."""
    caplog.set_level(logging.INFO, "aiokafka")
    place = Installation.create(kafka.bootstrap, partitions=2)
    settings = place.settings(instance_id="one")
    log = tmp_path / "other"
    with running(Worker(settings, lambda _: EchoPipeline(place.names.inputs))):
        _produce(place, 0, 2_000)
        wait_until(lambda: _committed_records(place) == 2_000, "all is committed")
        with _worker(place, log, "--instance", "one") as other:
            wait_until(lambda: "Joined group" in log.read_text(), "the other has taken its place")
            other.kill()
        wait_until(lambda: caplog.text.count("Joined group") > 1, "it is back")
        _produce(place, 2_000, 2_000)
        wait_until(lambda: _committed_records(place) == 4_000, "it goes on")
    generations = re.findall(r"Joined group \S+ \(generation (\d+)\)", caplog.text)
    assert set(generations) == {"1"}
