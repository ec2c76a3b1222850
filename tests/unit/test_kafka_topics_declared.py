"""The topics as they are declared; making them is tested on a real broker."""

from __future__ import annotations

from monitor.kafka.topics import TopicNames, declare_topics


def test_inputs_are_copartitioned_and_stamped_by_the_broker() -> None:
    specs = {spec.name: spec for spec in declare_topics(TopicNames(), partitions=12)}
    for name in ("generation-events", "sharing-events", "feedback-events"):
        assert (specs[name].partitions, specs[name].co_partitioned) == (12, True)
        assert specs[name].configuration["message.timestamp.type"] == "LogAppendTime"
        assert f"{name}-dlq" in specs


def test_every_topic_forgets() -> None:
    """Compacted ones too: the number of users has no bound. State is forgotten by its owner."""
    names = TopicNames()
    for spec in declare_topics(names, group="g"):
        if spec.name.endswith("-checkpoints-changelog"):
            assert spec.configuration["cleanup.policy"] == "compact"
            continue
        assert "delete" in spec.configuration["cleanup.policy"].split(",")
        assert int(spec.configuration["retention.ms"]) > 0


def test_decisions_incidents_and_checkpoints_are_compacted() -> None:
    compacted = {
        spec.name
        for spec in declare_topics(TopicNames())
        if "compact" in spec.configuration["cleanup.policy"]
    }
    stages = ("floodwatch", "floodwatch-shared", "floodwatch-groups")
    checkpoints = {f"{group}-checkpoints-changelog" for group in stages}
    assert compacted == {"decisions", "incidents", *checkpoints}


def test_three_replicas_demand_two_in_sync() -> None:
    for factor, expected in ((-1, None), (1, None), (3, "2")):
        specs = declare_topics(TopicNames(), replication_factor=factor)
        assert {spec.configuration.get("min.insync.replicas") for spec in specs} == {expected}
        assert {spec.replication_factor for spec in specs} == {factor}


def test_checkpoints_are_co_partitioned_with_the_inputs() -> None:
    specs = {spec.name: spec for spec in declare_topics(TopicNames(), group="g", partitions=12)}
    checkpoints = specs["g-checkpoints-changelog"]
    assert (checkpoints.partitions, checkpoints.co_partitioned) == (12, True)


def test_a_prefix_and_a_group_keep_installations_apart() -> None:
    names = TopicNames.with_prefix("blue-")
    assert names.inputs[0] == "blue-generation-events"
    assert names.dead_letters(names.inputs[0]) == "blue-generation-events-dlq"
    declared = {spec.name for spec in declare_topics(names, group="blue")}
    assert not declared & {spec.name for spec in declare_topics(TopicNames())}
