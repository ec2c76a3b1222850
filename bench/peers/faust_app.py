"""The stock Faust application of both Faust peers."""

from __future__ import annotations

import faust

from bench.task import Task

__all__ = ["make_app", "run"]


def make_app(task: Task) -> faust.App:
    """An application as in Faust's own documentation: memory store, no web server.

    Measured and not worth setting: larger fetches, ``stream_wait_empty``, uvloop. The Cython
    extension of the wheel is in use.
    """
    return faust.App(
        task.group,
        broker=f"kafka://{task.bootstrap}",
        store="memory://",
        datadir=task.folder,
        web_enabled=False,
        topic_partitions=task.partitions,
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
    )


def run(app: faust.App) -> None:
    """Run the application as ``faust worker`` does."""
    faust.Worker(app, loglevel="warning", redirect_stdouts=False).execute_from_commandline()
