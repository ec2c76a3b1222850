"""Stock Faust: an agent that counts events per user in a Table."""

from __future__ import annotations

import faust

from bench.peers.faust_app import make_app, run
from bench.task import Stopwatch, Task

__all__ = ["main"]


def main() -> None:
    """Count every message of the task under its key, the user."""
    task = Task.from_command_line()
    app = make_app(task)
    topic = app.topic(*task.topics, value_serializer="raw", key_serializer="raw")
    counts = app.Table("counts", default=int, partitions=task.partitions, key_type=bytes)
    stopwatch = Stopwatch(task)

    @app.agent(topic)
    async def count(stream: faust.StreamT[bytes]) -> None:
        async for event in stream.events():
            counts[event.key] += 1
            if stopwatch.batch(1):
                stopwatch.finish(sum(counts.values()))

    run(app)


if __name__ == "__main__":
    main()
