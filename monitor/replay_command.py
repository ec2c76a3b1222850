"""``floodwatch replay``: recorded logs through the in-process runner."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from detectors.compiled import compile_pack
from detectors.errors import PackError
from detectors.topology import Topology
from monitor.failures import USAGE, stop_on
from monitor.logs import LogError, open_log, replay_logs
from monitor.models.errors import ModelError
from monitor.models.opening import open_models
from monitor.options import ConfigOption, PackOption
from monitor.packs import load_pack
from monitor.replay_summary import ReplaySummary
from monitor.runner import Runner
from monitor.settings_sources import ConfigurationError, load_settings
from monitor.sinks import FindingSink, NdjsonSink, Sink
from monitor.store import StoreError
from monitor.store_opening import open_writer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    import polars as pl

    from monitor.config import Settings
    from monitor.logs import LogFile
    from monitor.pipeline import PipelineResult

__all__ = ["replay"]

_SUMMARY_FILE: Final = "summary.json"
_EVENT_SOURCE: Final = "/floodwatch/replay"
_PROGRESS_PER_S: Final = 4.0


def replay(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Logs: .ndjson or .jsonl (also .zst), .parquet. Several are merged by event time."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the results; those in it are replaced.")],
    pack: PackOption = None,
    partitions: Annotated[
        int | None, typer.Option(help="Partitions of the state; the results are the same.")
    ] = None,
    config: ConfigOption = None,
    *,
    ocsf: Annotated[
        bool, typer.Option("--ocsf", help="Write alerts as OCSF findings, too: findings.ndjson.")
    ] = False,
) -> None:
    """Run recorded logs through the detection, as the worker would have done.

    Writes alerts.ndjson, incidents.ndjson, decisions.ndjson, dead_letters.ndjson and summary.json.
    The last line counts events, alerts and incidents.
    """
    with stop_on(ConfigurationError, exit_code=USAGE):
        settings = load_settings(
            {"pack": pack, "runner": {"partitions": partitions}}, config=config, environ=os.environ
        )
    with (
        stop_on(PackError, exit_code=USAGE),
        stop_on(LogError, ModelError, StoreError, OSError),
    ):
        summary = _replay(settings, files, out, ocsf=ocsf)
    console = Console()
    summary.print(console)
    console.print(f"Results in {out}", markup=False, highlight=False, soft_wrap=True)
    console.print(summary.final_line, markup=False, highlight=False, soft_wrap=True)


class _TimedRunner(Runner):
    """A runner that notes the oldest and the newest event it was given."""

    first_ms: int | None = None
    last_ms: int | None = None

    def _push(
        self, source: str, frame: pl.DataFrame, offsets: npt.NDArray[np.int64], next_offset: int
    ) -> None:
        super()._push(source, frame, offsets, next_offset)
        if len(frame):
            times_ms = frame["time_ms"].to_numpy()
            oldest_ms, newest_ms = int(times_ms.min()), int(times_ms.max())
            self.first_ms = oldest_ms if self.first_ms is None else min(self.first_ms, oldest_ms)
            self.last_ms = newest_ms if self.last_ms is None else max(self.last_ms, newest_ms)


def _replay(settings: Settings, files: Sequence[Path], out: Path, *, ocsf: bool) -> ReplaySummary:
    # A recorded log may hold anything that has happened up to now.
    logs = [open_log(path, time.time_ns() // 1_000_000) for path in dict.fromkeys(files)]
    compiled = compile_pack(load_pack(settings.pack))
    models = open_models(settings.models.registry, settings.models.public_key, compiled)
    topology = Topology(compiled, settings.runner.max_users, models=models)
    runner = _TimedRunner(topology, [log.name for log in logs], settings.runner.partitions)
    pack = topology.pack.pack
    summary = ReplaySummary(
        pack.name, pack.version, [log.name for log in logs], settings.runner.partitions
    )
    started_s = time.monotonic()
    with ExitStack() as stack:
        sinks: list[Sink] = [stack.enter_context(closing(NdjsonSink(out)))]
        if ocsf:
            sinks.append(stack.enter_context(closing(FindingSink(out, _EVENT_SOURCE))))
        if settings.store.url:
            sinks.append(stack.enter_context(closing(open_writer(settings.store))))
        progress = stack.enter_context(_progress(logs))
        for result in replay_logs(runner, logs):
            _take(result, sinks, summary)
            for task_id, log in zip(progress.task_ids, logs, strict=True):
                progress.update(task_id, completed=log.done_bytes)
        if runner.last_ms is not None:
            # Partitions end at the time of the log, whichever of them had the last event.
            _take(runner.advance(runner.last_ms), sinks, summary)
    summary.elapsed_s = time.monotonic() - started_s
    summary.first_ms, summary.last_ms = runner.first_ms, runner.last_ms
    summary.evicted = sum(stage.keys.evicted for stage in runner.stages)
    text = json.dumps(summary.as_json(), indent=2, ensure_ascii=False)
    (out / _SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")
    return summary


def _take(result: PipelineResult, sinks: Sequence[Sink], summary: ReplaySummary) -> None:
    for sink in sinks:
        sink.write(result.outputs, result.dead_letters)
    summary.add(result)


def _progress(logs: Sequence[LogFile]) -> Progress:
    """A bar for each log on standard error; nothing where that is no terminal."""
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        refresh_per_second=_PROGRESS_PER_S,
        disable=not console.is_terminal,
    )
    for log in logs:
        progress.add_task(Path(log.name).name, total=log.size_bytes)
    return progress
