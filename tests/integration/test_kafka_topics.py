"""Making and checking topics on a real broker."""

from __future__ import annotations

import gc
import uuid

import pytest
from typer.testing import CliRunner

from monitor.kafka.errors import TopicsError
from monitor.kafka.topics import (
    TopicNames,
    check_topics,
    create_topics,
    declare_topics,
    require_topics,
)
from monitor.kafka.topics_command import TopicsTarget, topics_command
from tests.integration.kafka_harness import IGNORE_SOCKETS, Installation
from tests.kafka import ExistingBroker, KafkaBroker


@pytest.fixture
def names() -> TopicNames:
    return TopicNames.with_prefix(f"t{uuid.uuid4().hex[:8]}-")


def test_creating_twice_changes_nothing(
    kafka: KafkaBroker | ExistingBroker, names: TopicNames
) -> None:
    specs = declare_topics(names, group=names.alerts, partitions=3)
    first = create_topics([kafka.bootstrap], specs)
    assert [status.state for status in first] == ["created"] * 16
    second = create_topics([kafka.bootstrap], specs)
    assert [status.state for status in second] == ["exists"] * 16
    assert {s.name: s.partitions for s in second} == {spec.name: spec.partitions for spec in specs}
    assert require_topics([kafka.bootstrap], names, names.alerts) == 3


def test_what_is_missing_is_added_to_what_is_there(
    kafka: KafkaBroker | ExistingBroker, names: TopicNames
) -> None:
    specs = declare_topics(names, group=names.alerts, partitions=2)
    create_topics([kafka.bootstrap], specs[:4])
    states = {status.name: status.state for status in create_topics([kafka.bootstrap], specs)}
    assert [states[spec.name] for spec in specs] == ["exists"] * 4 + ["created"] * 12


def test_an_input_with_other_partitions_is_refused(
    kafka: KafkaBroker | ExistingBroker, names: TopicNames
) -> None:
    """It cannot be mended: adding partitions would move users to other ones."""
    create_topics([kafka.bootstrap], declare_topics(names, group=names.alerts, partitions=2))
    with pytest.raises(TopicsError, match=r"generation-events: 2 partitions instead of 4"):
        create_topics([kafka.bootstrap], declare_topics(names, group=names.alerts, partitions=4))


def test_inputs_of_unequal_partitions_are_refused_by_the_worker(
    kafka: KafkaBroker | ExistingBroker, names: TopicNames
) -> None:
    specs = {spec.name: spec for spec in declare_topics(names, group=names.alerts, partitions=2)}
    odd = {spec.name: spec for spec in declare_topics(names, group=names.alerts, partitions=3)}
    specs[names.feedback_events] = odd[names.feedback_events]
    create_topics([kafka.bootstrap], specs.values())
    with pytest.raises(TopicsError, match=r"feedback-events has 3"):
        require_topics([kafka.bootstrap], names, names.alerts)


def test_another_retention_is_reported_and_left_alone(kafka: KafkaBroker | ExistingBroker) -> None:
    place = Installation.create(kafka.bootstrap, partitions=1)
    place.configure(place.names.alerts, {"retention.ms": "3600000"})
    specs = declare_topics(place.names, group=place.group, partitions=1)
    for look in (create_topics, check_topics):
        statuses = look([kafka.bootstrap], specs)
        (alerts,) = [status for status in statuses if status.name == place.names.alerts]
        assert (alerts.state, alerts.usable) == ("differs", True)
        assert alerts.differences == ("retention.ms is 3600000 instead of 2592000000",)


def test_the_commands_create_check_and_list(
    kafka: KafkaBroker | ExistingBroker, names: TopicNames
) -> None:
    command = topics_command(lambda: TopicsTarget((kafka.bootstrap,), names, names.alerts))
    runner = CliRunner()
    missing = runner.invoke(command, ["check"])
    assert missing.exit_code == 1
    assert f"{names.alerts:<24} missing" in missing.output
    created = runner.invoke(command, ["create", "--partitions", "2"])
    assert created.exit_code == 0, created.output
    assert created.output.count("created") == 16
    assert runner.invoke(command, ["check", "--partitions", "2"]).exit_code == 0
    other = runner.invoke(command, ["check", "--partitions", "5"])
    assert other.exit_code == 1
    assert "2 partitions instead of 5" in other.output
    listed = runner.invoke(command, ["list"])
    assert listed.exit_code == 0
    assert names.decisions in listed.output
    assert "cleanup.policy=compact,delete" in listed.output


@IGNORE_SOCKETS
def test_without_a_broker_the_command_says_so(names: TopicNames) -> None:
    command = topics_command(lambda: TopicsTarget(("127.0.0.1:9",), names, "group"))
    result = CliRunner().invoke(command, ["create", "--brokers", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in result.output
    gc.collect()
