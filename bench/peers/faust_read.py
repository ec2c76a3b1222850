"""Stock Faust: an agent that reads the raw messages and does nothing with them."""

from __future__ import annotations

import faust

from bench.peers.faust_app import make_app, run
from bench.task import Stopwatch, Task

__all__ = ["main"]


def main() -> None:
    """Read every message of the task."""
    task = Task.from_command_line()
    app = make_app(task)
    topic = app.topic(*task.topics, value_serializer="raw", key_serializer="raw")
    stopwatch = Stopwatch(task)

    @app.agent(topic)
    async def read(stream: faust.StreamT[bytes]) -> None:
        async for _ in stream:
            if stopwatch.batch(1):
                stopwatch.finish()

    run(app)


if __name__ == "__main__":
    main()
