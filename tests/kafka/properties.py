"""The configuration of the broker: one KRaft node that is broker and controller."""

from __future__ import annotations

from pathlib import Path

__all__ = ["server_properties"]


def server_properties(data: Path, port: int, controller_port: int) -> str:
    """The text of ``server.properties`` for a node that keeps its logs in ``data``."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        # A topic that nobody declared is a mistake, here as in production.
        "auto.create.topics.enable": "false",
        "delete.topic.enable": "true",
        # One node: nothing can be replicated.
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # Few internal partitions (50 by default) and no wait for members: groups settle at once.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
        # After a kill the controller waits this long (9 s by default) for the broker it knew.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # Small segments and buffers, so that compaction happens and 512 MB are plenty.
        "log.segment.bytes": str(64 * 1024 * 1024),
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "num.network.threads": "2",
        "num.io.threads": "4",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())
