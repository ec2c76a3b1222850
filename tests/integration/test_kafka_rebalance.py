"""Two workers on a real broker that die, hang and come back: no record may be lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monitor.cloudevents import decode_event
from tests.integration.kafka_harness import IGNORE_SOCKETS, Installation
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.waiting import wait_until

pytestmark = IGNORE_SOCKETS

_REPOSITORY = Path(__file__).parents[2]
_RECORDS = 12_000


@contextmanager
def _worker(place: Installation, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, killed at the end if it is still there."""
    command = [sys.executable, "-m", "tests.integration.kafka_echo", "--chunk-records", "20"]
    command += ["--brokers", place.bootstrap, "--group", place.group]
    command += ["--prefix", place.names.alerts.removesuffix("alerts")]
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
