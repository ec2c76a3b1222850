"""``floodwatch topics create|list|check``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from monitor.kafka.errors import TopicsError
from monitor.kafka.topics import (
    DEFAULT_PARTITIONS,
    TopicNames,
    TopicSpec,
    TopicStatus,
    check_topics,
    create_topics,
    declare_topics,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["TopicsTarget", "topics_command"]


@dataclass(frozen=True, slots=True)
class TopicsTarget:
    """The broker and the topic names that the configuration says."""

    brokers: tuple[str, ...]
    names: TopicNames
    group: str


_Brokers = Annotated[
    str | None,
    typer.Option(help="host:port, several separated by commas; else as configured."),
]
_Partitions = Annotated[
    int,
    typer.Option(min=1, max=4_096, help="Partitions of each input topic, the same for all three."),
]
_Replication = Annotated[
    int,
    typer.Option(min=-1, help="Replicas of each partition; -1 leaves it to the broker."),
]


def topics_command(configured: Callable[[], TopicsTarget]) -> typer.Typer:
    """The command group. ``configured`` is called when a command runs, not before.

    Exit status: 0 if the topics can be used, 1 if not (or the broker does not answer).
    """
    command = typer.Typer(help="Make and check the Kafka topics.", no_args_is_help=True)

    def target(brokers: str | None) -> TopicsTarget:
        found = configured()
        if not brokers:
            return found
        return TopicsTarget(tuple(brokers.split(",")), found.names, found.group)

    def report(
        ask: Callable[[Sequence[str], Sequence[TopicSpec]], Iterable[TopicStatus]],
        brokers: str | None,
        partitions: int,
        replication_factor: int,
    ) -> None:
        chosen = target(brokers)
        specs = declare_topics(
            chosen.names,
            group=chosen.group,
            partitions=partitions,
            replication_factor=replication_factor,
        )
        _report(lambda: ask(chosen.brokers, specs))

    @command.command()
    def create(
        brokers: _Brokers = None,
        partitions: _Partitions = DEFAULT_PARTITIONS,
        replication_factor: _Replication = -1,
    ) -> None:
        """Create the topics that are missing; those that exist stay as they are."""
        report(create_topics, brokers, partitions, replication_factor)

    @command.command()
    def check(
        brokers: _Brokers = None,
        partitions: _Partitions = DEFAULT_PARTITIONS,
        replication_factor: _Replication = -1,
    ) -> None:
        """Compare the topics on the broker with what they should be; change nothing."""
        report(check_topics, brokers, partitions, replication_factor)

    @command.command(name="list")
    def list_() -> None:
        """List the topics there should be, with their partitions and settings. Asks no broker."""
        chosen = configured()
        for spec in declare_topics(chosen.names, group=chosen.group):
            settings = " ".join(f"{key}={value}" for key, value in spec.configuration.items())
            typer.echo(f"{spec.name:<24} {spec.partitions:>3} partitions  {settings}")

    return command


def _report(ask: Callable[[], Iterable[TopicStatus]]) -> None:
    try:
        statuses = list(ask())
    except TopicsError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    for status in statuses:
        typer.echo(f"{status.name:<24} {status.state:<8} {status.partitions:>3} partitions")
        for difference in status.differences:
            typer.echo(f"{'':<24} - {difference}")
    if not all(status.usable for status in statuses):
        raise typer.Exit(1)
