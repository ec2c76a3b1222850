"""``floodwatch demo``: composition of the demo."""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import AbstractContextManager, ExitStack, closing
from importlib import resources
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from detectors.anomaly import FixedModels, ModelPair
from detectors.compiled import compile_pack
from detectors.errors import PackError
from detectors.topology import Topology
from monitor.demo.board import Board
from monitor.demo.display import display_for
from monitor.demo.feed import slices
from monitor.demo.report import print_report
from monitor.demo.schedule import Schedule
from monitor.demo.session import SOURCE, Session
from monitor.failures import USAGE, stop_on
from monitor.health import Health, MetricsServer, PortTakenError, port_is_free, serve_metrics
from monitor.metrics import Metrics
from monitor.models.errors import ModelError
from monitor.models.files import load_model
from monitor.models.opening import open_models
from monitor.options import ConfigOption, MetricsPortOption, PackOption
from monitor.packs import load_pack
from monitor.pipeline import warm_up
from monitor.runner import Runner
from monitor.settings_sources import ConfigurationError, load_settings
from monitor.signals import stop_on_signals
from monitor.simulator import DEFAULT_START_MS, SimulationError, load_scenario, simulate_chunks
from monitor.sinks import NdjsonSink
from monitor.store import StoreError
from monitor.store_metrics import StoreMetrics
from monitor.store_opening import DEMO_STORE, open_writer
from monitor.version import program_version

if TYPE_CHECKING:
    from collections.abc import Generator

    from detectors.anomaly import Models
    from detectors.compiled import CompiledPack
    from monitor.config import DemoSettings, Settings
    from monitor.demo.feed import Slice
    from monitor.store.observer import StoreObserver
    from monitor.store.writer import StoreWriter

__all__ = ["demo"]

_SCENARIO: Final = "demo"
_EVENTS_PER_USER_S: Final = 0.005
_SLICE_S: Final = 0.2
_DAY_MINUTES: Final = 1_440.0


def demo(
    minutes: Annotated[
        float | None,
        typer.Option(help="Minutes until it ends by itself. [default: until Ctrl-C]"),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same events.")] = None,
    users: Annotated[int | None, typer.Option(help="Honest users. [default: 20000]")] = None,
    speed: Annotated[
        float | None, typer.Option(help="Simulated seconds in a second. [default: 10]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results. [default: build/demo]")
    ] = None,
    metrics_port: MetricsPortOption = None,
    pack: PackOption = None,
    config: ConfigOption = None,
) -> None:
    """Watch misuse being found in the simulated stream of a generative-video platform.

    Simulator, detection and SQLite run in this one process, with a live picture in the terminal
    and metrics for Prometheus. Attacks begin within seconds. Ctrl-C ends it.
    """
    with stop_on(ConfigurationError, exit_code=USAGE):
        settings = load_settings(
            {
                "pack": pack,
                "metrics": {"port": metrics_port},
                "demo": {
                    "minutes": minutes,
                    "seed": seed,
                    "users": users,
                    "speed": speed,
                    "out": out,
                },
            },
            config=config,
            environ=os.environ,
        )
    with (
        stop_on(PackError, exit_code=USAGE),
        stop_on(ModelError, PortTakenError, StoreError, SimulationError, OSError),
    ):
        _run(settings, Console())


def _run(settings: Settings, console: Console) -> None:
    chosen, clock = settings.demo, time.monotonic
    console.print("Preparing the detection (the first time takes up to a minute) ...")
    pack = compile_pack(load_pack(settings.pack))
    topology = Topology(pack, settings.runner.max_users, models=_models(settings, pack, console))
    schedule = Schedule(DEFAULT_START_MS, chosen.speed, clock)
    metrics = Metrics(
        version=program_version(), pack=topology.pack.pack, clock=clock, delay_s=schedule.lag_s
    )
    runner = Runner(topology, [SOURCE], settings.runner.partitions)
    for partition, stage in enumerate(runner.stages):
        metrics.watch_stage(partition, stage)
    metrics.assigned(settings.runner.partitions)
    ready = threading.Event()
    health = Health(clock, lambda: "" if ready.is_set() else "preparing")
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        server = stack.enter_context(_serve(settings, metrics, health))
        sink = stack.enter_context(closing(NdjsonSink(chosen.out)))
        store = stack.enter_context(closing(_store(settings, StoreMetrics(metrics.registry))))
        pieces = stack.enter_context(closing(_slices(chosen)))
        first = list(islice(pieces, 1))  # made before the clock starts
        warm_up(topology)
        ready.set()
        console.print(f"Metrics on {server.address}/metrics", highlight=False, soft_wrap=True)
        board = Board(
            pack=f"{topology.pack.pack.name} {topology.pack.version}",
            speed=chosen.speed,
            metrics_address=server.address,
            results=str(chosen.out),
        )
        with display_for(console) as display:
            session = Session(
                runner, [sink, store], metrics, health, schedule, board, display, clock, stop
            )
            session.run(chain(first, pieces))
        elapsed_s = clock() - board.started_s
    print_report(console, board, out=chosen.out, store_url=store.url, elapsed_s=elapsed_s)


def _models(settings: Settings, pack: CompiledPack, console: Console) -> Models:
    """The models of the settings; without, the small one that comes with the demo."""
    if settings.models.registry:
        return open_models(settings.models.registry, settings.models.public_key, pack)
    try:
        model = load_model(Path(str(resources.files("monitor.demo"))) / "model", pack, None)
    except ModelError as error:
        console.print(f"No anomaly model: {error}", markup=False, highlight=False, soft_wrap=True)
        return FixedModels()
    return FixedModels(ModelPair(model))


def _slices(chosen: DemoSettings) -> Generator[Slice]:
    """The simulated stream; users stay as busy however many they are."""
    scenario = load_scenario(_SCENARIO)
    rate = _EVENTS_PER_USER_S * chosen.users
    baseline = scenario.baseline.model_copy(update={"events_per_s": rate})
    chunks = simulate_chunks(
        scenario.model_copy(update={"baseline": baseline}),
        seed=chosen.seed,
        users=chosen.users,
        minutes=chosen.minutes * chosen.speed or _DAY_MINUTES,
    )
    return slices(chunks, max(1, round(1_000 * _SLICE_S * chosen.speed)))


def _serve(
    settings: Settings, metrics: Metrics, health: Health
) -> AbstractContextManager[MetricsServer]:
    """Serve on the port that was asked for; where none was, and ours is taken, on a free one."""
    chosen = settings.metrics
    port = chosen.port
    if "port" not in chosen.model_fields_set and not port_is_free(chosen.host, port):
        port = 0
    return serve_metrics(metrics.registry, health, host=chosen.host, port=port)


def _store(settings: Settings, observer: StoreObserver) -> StoreWriter:
    """A writer into the configured store, else into a new one among the results."""
    if settings.store.url:
        return open_writer(settings.store, observer)
    path = settings.demo.out / DEMO_STORE
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    shutil.rmtree(settings.demo.out / "spool", ignore_errors=True)
    own = settings.store.model_copy(
        update={"url": f"sqlite:///{path}", "spool": settings.demo.out / "spool"}
    )
    return open_writer(own, observer)
