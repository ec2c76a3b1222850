"""Quix Streams: a dataframe that counts events per user."""

from __future__ import annotations

from quixstreams import Application, State

from bench.task import Stopwatch, Task

__all__ = ["main"]


def main() -> None:
    """Count every message of the task under its key, the user."""
    task = Task.from_command_line()
    app = Application(
        broker_address=task.bootstrap,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        state_dir=task.folder,
        use_changelog_topics=False,
        loglevel="WARNING",
    )
    stopwatch = Stopwatch(task)

    def count(_value: bytes, state: State) -> None:
        state.set("count", state.get("count", 0) + 1)
        if stopwatch.batch(1):
            stopwatch.finish()

    for name in task.topics:
        topic = app.topic(name, key_deserializer="bytes", value_deserializer="bytes")
        app.dataframe(topic).update(count, stateful=True)
    app.run()


if __name__ == "__main__":
    main()
