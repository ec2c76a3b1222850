"""The control: per-user counts as Faust's own documentation makes them, a Table and an agent.

python -m tests.chaos.control_app HOST:PORT GROUP TOPIC PARTITIONS
"""

from __future__ import annotations

import sys

import faust

__all__ = ["TABLE", "main"]

TABLE = "counts"


def main() -> None:
    """Count the messages of a topic by key until SIGTERM.

    All as it comes with Faust, but for the session: with the default of 60 s a group would wait a
    minute after each kill. It is as long as the worker's.
    """
    bootstrap, group, topic_name, partitions = sys.argv[1:]
    app = faust.App(
        group,
        broker=f"kafka://{bootstrap}",
        store="memory://",
        web_enabled=False,
        topic_partitions=int(partitions),
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=6.0,
        broker_heartbeat_interval=2.0,
    )
    topic = app.topic(topic_name, value_serializer="raw", key_serializer="raw")
    counts = app.Table(TABLE, default=int, partitions=int(partitions), key_type=bytes)

    @app.agent(topic)
    async def count(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            counts[event.key] += 1

    faust.Worker(app, loglevel="warning", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()
