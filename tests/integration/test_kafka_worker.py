"""The worker on a real broker: merging, publishing, committing, failing and coming back."""

from __future__ import annotations

import random
from collections.abc import Collection

import pytest

from monitor.checkpoint.contract import Position
from monitor.cloudevents import DECISION_TYPE, decode_event
from monitor.kafka.dlq import decode_dead_letter, raw_bytes
from monitor.kafka.errors import PublishError, TopicsError, WorkerError
from monitor.kafka.topics import TopicNames
from monitor.kafka.worker import Worker
from monitor.pipeline import PipelineResult
from tests.integration.kafka_echo import EchoPipeline
from tests.integration.kafka_harness import IGNORE_SOCKETS, Installation, running
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.waiting import wait_until

pytestmark = IGNORE_SOCKETS


def _echoes(place: Installation) -> list[str]:
    """The users of all decisions, by partition and offset."""
    return [decode_event(record.value).subject for record in place.read(place.names.decisions)]


def _ends(place: Installation) -> dict[tuple[str, int], int]:
    records = [record for topic in place.names.inputs for record in place.read(topic)]
    return {(record.topic, record.partition): record.offset + 1 for record in records}


def _echo_worker(place: Installation, **changes: object) -> Worker:
    return Worker(place.settings(**changes), lambda _: EchoPipeline(place.names.inputs))


def test_what_is_in_the_topics_is_merged_by_event_time(
    kafka: KafkaBroker | ExistingBroker,
) -> None:
    """Exactly, with buffers much smaller than what is there, and topics of unequal size."""
    place = Installation.create(kafka.bootstrap, partitions=2)
    shares = random.Random(5).choices(place.names.inputs, weights=(90, 9, 1), k=12_000)
    place.produce((topic, time % 2, b"%d:u%d" % (time, time)) for time, topic in enumerate(shares))
    order: dict[int, list[str]] = {0: [], 1: []}
    pipelines: list[EchoPipeline] = []

    class Watched(EchoPipeline):
        partition = -1

        def process(
            self, idle_sources: Collection[str], limit: int, bound: Position | None = None
        ) -> PipelineResult:
            result = super().process(idle_sources, limit, bound)
            order[self.partition] += [decision.user_id for decision in result.decisions]
            return result

    def make(partition: int) -> EchoPipeline:
        pipeline = Watched(place.names.inputs)
        pipeline.partition = partition
        pipelines.append(pipeline)
        return pipeline

    settings = place.settings(max_chunk_records=100, buffer_events=300, process_events=100)
    with running(Worker(settings, make)):
        wait_until(lambda: sum(map(len, order.values())) >= 12_000, "all was merged")
    for partition in (0, 1):
        assert order[partition] == [f"u{time}" for time in range(partition, 12_000, 2)]
    assert max(pipeline.most_buffered for pipeline in pipelines) <= 200
    assert sorted(_echoes(place)) == sorted(f"u{time}" for time in range(12_000))


def test_a_topic_without_records_does_not_hold_the_others_back(
    kafka: KafkaBroker | ExistingBroker,
) -> None:
    place = Installation.create(kafka.bootstrap, partitions=2)
    with running(_echo_worker(place)) as state:
        state.wait_ready()
        place.produce((place.names.sharing_events, n % 2, b"%d:u%d" % (n, n)) for n in range(10))
        wait_until(lambda: len(_echoes(place)) == 10, "the records were echoed", deadline_s=15)
    assert sorted(_echoes(place)) == sorted(f"u{n}" for n in range(10))


def test_a_topic_that_trickles_with_old_times_does_not_hold_the_others_back(
    kafka: KafkaBroker | ExistingBroker,
) -> None:
    """One that is never silent and whose event times never reach those of the others."""
    place = Installation.create(kafka.bootstrap, partitions=1)
    generations, _, feedback = place.names.inputs
    with running(_echo_worker(place, merge_wait_ms=300)) as state:
        state.wait_ready()
        place.produce((generations, 0, b"%d:u%d" % (1_000_000 + n, n)) for n in range(50))

        def trickle() -> bool:
            place.produce([(feedback, 0, b"1:old")])
            return {f"u{n}" for n in range(50)} <= set(_echoes(place))

        wait_until(trickle, "generations were echoed between old feedback", deadline_s=20)
    assert [echo for echo in _echoes(place) if echo != "old"] == [f"u{n}" for n in range(50)]


def test_what_cannot_be_read_becomes_a_dead_letter(kafka: KafkaBroker | ExistingBroker) -> None:
    place = Installation.create(kafka.bootstrap, partitions=2)
    topic = place.names.generation_events
    huge = b"\xff" * 100_000
    values = [b"1:a", b"junk", None, huge, b"2:b"]
    place.produce((topic, 1, value) for value in values)
    with running(_echo_worker(place)):
        wait_until(lambda: place.committed().get((topic, 1)) == 5, "all five are committed")
    letters = place.read(place.names.dead_letters(topic))
    records = [decode_dead_letter(letter.value) for letter in letters]
    inputs = {record.offset: record for record in place.read(topic)}
    assert [record.source.offset for record in records] == [1, 2, 3]
    assert [record.reason for record in records] == [
        "malformed_json",
        "tombstone",
        "malformed_json",
    ]
    assert [raw_bytes(record) for record in records] == [b"junk", None, huge[: 64 * 1024]]
    assert [record.truncated for record in records] == [False, False, True]
    assert [record.raw_size_bytes for record in records] == [4, 0, 100_000]
    for letter, record in zip(letters, records, strict=True):
        source = inputs[record.source.offset]
        assert (record.source.topic, record.source.partition) == (topic, 1)
        assert record.source.timestamp_ms == source.timestamp
        assert letter.key == source.key
        assert dict(letter.headers)["floodwatch-reason"] == record.reason.encode()
    assert sorted(_echoes(place)) == ["a", "b"]


def test_outputs_are_cloud_events_keyed_by_what_they_are_about(
    kafka: KafkaBroker | ExistingBroker,
) -> None:
    place = Installation.create(kafka.bootstrap, partitions=1)
    place.produce([(place.names.sharing_events, 0, b"1700000000123:ann")])
    with running(_echo_worker(place, event_source="/floodwatch/test")):
        wait_until(lambda: bool(place.committed()), "the record is committed")
    (record,) = place.read(place.names.decisions)
    event = decode_event(record.value)
    assert record.key == b"ann"
    assert dict(record.headers)["content-type"].startswith(b"application/cloudevents+json")
    assert (event.specversion, event.type) == ("1.0", DECISION_TYPE)
    assert (event.source, event.subject) == ("/floodwatch/test", "ann")
    assert event.time == "2023-11-14T22:13:20.123Z"
    assert isinstance(event.data, dict)
    assert event.data["user_id"] == "ann"


def test_nothing_is_committed_whose_outputs_were_refused(
    kafka: KafkaBroker | ExistingBroker,
) -> None:
    """The worker stops with the reason; once the cause is gone, a new one loses nothing."""
    place = Installation.create(kafka.bootstrap, partitions=2)
    topic = place.names.feedback_events
    place.produce((topic, n % 2, b"%d:u%d" % (n, n)) for n in range(2_000))
    place.configure(place.names.decisions, {"max.message.bytes": "50"})
    with running(_echo_worker(place, publish_attempts=2)) as state:
        failure = state.wait_failed()
    assert set(place.committed().values()) <= {0}
    assert isinstance(failure.__cause__, PublishError)
    assert place.names.decisions in str(failure)
    assert _echoes(place) == []
    place.configure(place.names.decisions, {"max.message.bytes": "1000000"})
    with running(_echo_worker(place)):
        wait_until(lambda: place.committed() == _ends(place), "all is committed")
    assert sorted(_echoes(place)) == sorted(f"u{n}" for n in range(2_000))


def test_a_pipeline_that_fails_stops_the_worker_before_it_commits(
    kafka: KafkaBroker | ExistingBroker,
) -> None:
    place = Installation.create(kafka.bootstrap, partitions=1)
    topic = place.names.generation_events
    place.produce((topic, 0, b"%d:u%d" % (n, n)) for n in range(100))
    place.produce([(topic, 0, b"not-a-number:x")])  # the echo's int() raises ValueError
    with running(_echo_worker(place, max_chunk_records=10)) as state:
        failure = state.wait_failed()
    assert isinstance(failure.__cause__, ValueError)
    assert place.committed().get((topic, 0), 0) <= 100
    assert set(_echoes(place)) <= {f"u{n}" for n in range(100)}


@pytest.mark.parametrize("instance_id", [None, "worker-1"])
def test_a_restarted_worker_goes_on_where_the_last_one_stopped(
    kafka: KafkaBroker | ExistingBroker, instance_id: str | None
) -> None:
    """Stopped in order, nothing is skipped and nothing is done twice.

    A static member does not leave the group, and is given its partitions without a rebalance.
    """
    place = Installation.create(kafka.bootstrap, partitions=2)
    topics = place.names.inputs
    for turn in range(3):
        place.produce((topics[n % 3], n % 2, b"%d:turn%d-%d" % (n, turn, n)) for n in range(1_000))
        with running(_echo_worker(place, instance_id=instance_id)):
            wait_until(lambda: place.committed() == _ends(place), "all is committed")
        wanted = [f"turn{turn}-{n}" for turn in range(turn + 1) for n in range(1_000)]
        assert sorted(_echoes(place)) == sorted(wanted)


def test_what_faust_throws_away_is_read_again(
    kafka: KafkaBroker | ExistingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    """Faust empties its stream buffers when it resumes after a rebalance.

    Here it does so all the time for a while, so the first and the last chunks go too.
    """
    place = Installation.create(kafka.bootstrap, partitions=2)
    topics = place.names.inputs
    place.produce((topics[n % 3], n % 2, b"%d:u%d" % (n, n)) for n in range(4_000))
    worker = _echo_worker(place, max_chunk_records=50)
    with running(worker) as state:
        state.wait_ready()
        session = worker._session
        assert session is not None
        storm = True

        def empty_buffers() -> None:
            session._app.flow_control.clear()
            if storm:
                session._loop.call_soon(empty_buffers)

        session._loop.call_soon_threadsafe(empty_buffers)
        place.produce((topics[n % 3], n % 2, b"%d:u%d" % (n, n)) for n in range(4_000, 6_000))
        wait_until(lambda: caplog.text.count("never arrived") >= 3, "chunks were lost")
        storm = False
        wait_until(lambda: place.committed() == _ends(place), "all is committed")
        assert state.failure is None
    assert sorted(set(_echoes(place))) == sorted(f"u{n}" for n in range(6_000))


def test_records_survive_a_broker_that_dies_and_comes_back(own_kafka: KafkaBroker) -> None:
    """Killed while the worker works: it waits, and every record is echoed in the end."""
    place = Installation.create(own_kafka.bootstrap, partitions=2)
    topic = place.names.generation_events
    place.produce((topic, n % 2, b"%d:u%d" % (n, n)) for n in range(3_000))
    with running(_echo_worker(place, max_chunk_records=50, process_events=50)) as state:
        wait_until(lambda: bool(place.committed()), "work has begun")
        own_kafka.kill()
        own_kafka.start()
        wait_until(lambda: place.committed() == _ends(place), "all is committed")
        assert state.failure is None
    assert set(_echoes(place)) == {f"u{n}" for n in range(3_000)}


def test_a_worker_can_be_stopped_while_the_broker_is_gone(own_kafka: KafkaBroker) -> None:
    """It gives up what it cannot finish: an idempotent producer would try for ever."""
    place = Installation.create(own_kafka.bootstrap, partitions=2)
    topic = place.names.generation_events
    place.produce((topic, n % 2, b"%d:u%d" % (n, n)) for n in range(3_000))
    worker = _echo_worker(place, max_chunk_records=20, process_events=20)
    with running(worker) as state:
        wait_until(lambda: bool(place.committed()), "work has begun")
        own_kafka.kill()
        worker.stop()
        wait_until(lambda: not state.thread.is_alive(), "it stopped", deadline_s=40)
    assert state.failure is None


def test_without_its_topics_a_worker_says_what_to_do(kafka: KafkaBroker | ExistingBroker) -> None:
    place = Installation(kafka.bootstrap, TopicNames.with_prefix("absent-"), "absent", 1)
    with running(_echo_worker(place)) as state:
        failure = state.wait_failed()
    assert isinstance(failure, TopicsError)
    assert "absent-generation-events" in str(failure)
    assert "floodwatch topics create" in str(failure)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"brokers": ("nowhere",)}, "not host:port"),
        ({"session_timeout_s": 1.0}, "session_timeout_s"),
        ({"heartbeat_interval_s": 5.0}, "heartbeat_interval_s"),
        ({"max_chunk_records": 0}, "max_chunk_records"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(changes: dict[str, object], words: str) -> None:
    place = Installation("127.0.0.1:9092", TopicNames(), "group", 1)
    settings = place.settings()
    fields = {name: getattr(settings, name) for name in settings.__slots__}
    with pytest.raises(WorkerError, match=words):
        type(settings)(**{**fields, **changes})
