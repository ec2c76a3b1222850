"""``floodwatch store``: the service that stores what is published, and the care of the database."""

from __future__ import annotations

import logging
import os
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import typer
from prometheus_client import CollectorRegistry, ProcessCollector

from monitor.failures import USAGE, stop_on
from monitor.health import Health, PortTakenError, serve_metrics
from monitor.kafka.errors import KafkaShellError, TopicsError
from monitor.kafka.library_logs import quiet_libraries
from monitor.kafka.topics import TopicNames, check_topics, declare_topics
from monitor.options import ConfigOption, MetricsPortOption
from monitor.paging_service import paging
from monitor.settings_sources import ConfigurationError, load_settings
from monitor.signals import stop_on_signals
from monitor.store.audit import verify_audit
from monitor.store.engine import open_engine, shown_url
from monitor.store.errors import StoreError, StoreUnavailableError
from monitor.store.schema import migrate as migrate_engine
from monitor.store.writer import Backoff
from monitor.store_consumer import StoreConsumer, StoreConsumerSettings
from monitor.store_metrics import StoreMetrics
from monitor.store_opening import open_existing, open_store, password_file

if TYPE_CHECKING:
    import threading
    from collections.abc import Sequence

    from monitor.config import KafkaSettings, Settings
    from monitor.store.store import Store

__all__ = ["app"]

app = typer.Typer(
    help="Store what is published: alerts, incidents, decisions.", invoke_without_command=True
)

_log = logging.getLogger(__name__)
_PAUSE_S: Final = 0.2

_Store: TypeAlias = Annotated[
    str | None, typer.Option("--store", help="URL of the database. [default: store.url]")
]


@app.callback()
def run(
    context: typer.Context,
    brokers: Annotated[
        str | None,
        typer.Option(help="host:port, several separated by commas. [default: 127.0.0.1:9092]"),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(help="The workers' group; ours is it and -store. [default: floodwatch]"),
    ] = None,
    store: _Store = None,
    metrics_port: MetricsPortOption = None,
    config: ConfigOption = None,
) -> None:
    """Store what the workers publish, as a consumer group of its own, until SIGTERM or Ctrl-C.

    While the database is away it waits, and nothing is lost: the topics keep it. Several may run.
    """
    if context.invoked_subcommand is not None:
        if any(given is not None for given in (brokers, group, store, metrics_port, config)):
            raise typer.BadParameter(f"options of {context.invoked_subcommand} come after it")
        return
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    quiet_libraries()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with stop_on(ConfigurationError, exit_code=USAGE):
        settings = load_settings(
            {
                "kafka": {"brokers": brokers, "group": group},
                "store": {"url": store},
                "metrics": {"port": metrics_port},
            },
            config=config,
            environ=os.environ,
        )
        _require_url(settings)
    with stop_on(KafkaShellError, PortTakenError, StoreError):
        _serve(settings)


@app.command()
def migrate(store: _Store = None, config: ConfigOption = None) -> None:
    """Bring the tables to those of this version. The service does it too, when it starts."""
    settings = _settings(store, config)
    with stop_on(StoreError):
        engine = open_engine(settings.store.url, password_file=password_file(settings.store))
        try:
            before, now = migrate_engine(engine)
        finally:
            engine.dispose()
    place = shown_url(engine.url)
    was = "was empty" if before is None else f"was of version {before}"
    typer.echo(f"{place} {'is' if before == now else f'{was}, is now'} of version {now}")


@app.command()
def prune(
    days: Annotated[
        int | None, typer.Option(min=1, help="Keep so many days. [default: store.retention_days]")
    ] = None,
    store: _Store = None,
    config: ConfigOption = None,
) -> None:
    """Remove what has been there for too long. The service does it too, every hour."""
    settings = _settings(store, config)
    keep = days or settings.store.retention_days
    if not keep:
        typer.echo("store.retention_days is 0: everything is kept; --days removes all the same")
        return
    with stop_on(StoreError), closing(open_store(settings.store)) as opened:
        removed = opened.prune_days(keep)
    listed = ", ".join(f"{count:,} {table}" for table, count in removed.items() if count)
    typer.echo(f"removed what is older than {keep} days: {listed or 'nothing'}")


@app.command()
def verify(
    expect: Annotated[
        str, typer.Option(help="A hash that was noted before: it must be in the chain.")
    ] = "",
    store: _Store = None,
    config: ConfigOption = None,
) -> None:
    """Check that nobody has changed the audit of what people did to incidents."""
    settings = _settings(store, config, required=False)
    with stop_on(StoreError):
        engine = open_existing(settings)
        try:
            head = verify_audit(engine, expect)
        finally:
            engine.dispose()
    typer.echo(f"the audit is whole: {head.count:,} rows, the last one's hash is {head.hash}")


def _settings(store: str | None, config: Path | None, *, required: bool = True) -> Settings:
    with stop_on(ConfigurationError, exit_code=USAGE):
        settings = load_settings({"store": {"url": store}}, config=config, environ=os.environ)
        if required:
            _require_url(settings)
    return settings


def _require_url(settings: Settings) -> None:
    if not settings.store.url:
        problem = (
            "store.url is not set: name the database with --store, FLOODWATCH_STORE__URL or in "
            "the configuration, such as postgresql+psycopg://user@host/floodwatch"
        )
        raise ConfigurationError([problem])


@dataclass(slots=True)
class _State:
    """Whether the service is ready: before there is a consumer, ``reason`` says why not."""

    reason: str = "starting"
    consumer: StoreConsumer | None = field(default=None)

    def not_ready(self) -> str:
        return self.reason if self.consumer is None else self.consumer.not_ready


def _serve(settings: Settings) -> None:
    names = TopicNames(**settings.kafka.topics.model_dump())
    registry = CollectorRegistry()
    ProcessCollector(namespace="floodwatch", registry=registry)
    metrics = StoreMetrics(registry, names.outputs)
    state = _State()
    health = Health(time.monotonic, state.not_ready)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        if settings.metrics.enabled:
            chosen = settings.metrics
            server = stack.enter_context(
                serve_metrics(registry, health, host=chosen.host, port=chosen.port)
            )
            _log.info("metrics on %s/metrics", server.address)
        _require_topics(settings.kafka, names)
        store = _opened(settings, metrics, state, health, stop)
        if store is None:
            return
        stack.enter_context(closing(store))
        stack.enter_context(paging(settings.paging, store, registry, stop))
        consumer = StoreConsumer(
            _consumer_settings(settings, names.outputs), store, metrics, stop, beat=health.beat
        )
        state.consumer = consumer
        _log.info("storing %s in %s", ", ".join(names.outputs), store.url)
        consumer.run()


def _require_topics(kafka: KafkaSettings, names: TopicNames) -> None:
    wanted = [spec for spec in declare_topics(names) if spec.name in names.outputs]
    brokers = kafka.brokers.split(",")
    missing = [s.name for s in check_topics(brokers, wanted) if s.state == "missing"]
    if missing:
        raise TopicsError(
            f"topics missing on {kafka.brokers}: {', '.join(missing)}; "
            "make them with 'floodwatch topics create'"
        )


def _opened(
    settings: Settings,
    metrics: StoreMetrics,
    state: _State,
    health: Health,
    stop: threading.Event,
) -> Store | None:
    """The store, as soon as the database answers; None if we are to stop before that."""
    backoff = Backoff(time.monotonic)
    while not stop.is_set():
        try:
            return open_store(settings.store)
        except StoreUnavailableError as error:
            if state.reason != str(error):
                _log.warning("%s; trying until it answers", error)
            state.reason = str(error)
            metrics.failed()
            backoff.failed()
        while backoff.remaining_s > 0 and not stop.wait(min(backoff.remaining_s, _PAUSE_S)):
            health.beat()
    return None


def _consumer_settings(settings: Settings, topics: Sequence[str]) -> StoreConsumerSettings:
    return StoreConsumerSettings(
        brokers=settings.kafka.brokers.split(","),
        group=TopicNames.group_of(settings.kafka.group, "store"),
        topics=topics,
        batch_outputs=settings.store.batch_outputs,
        retention_days=settings.store.retention_days,
        session_timeout_s=settings.kafka.session_timeout_s,
    )
