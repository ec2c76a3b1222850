"""``floodwatch``: the commands there are, and the module that composes each.

This module and the command modules it names are the composition root: only they read settings
and wire parts together. A command's module is imported when the command runs, because Polars,
numba, SQLAlchemy and Faust together take seconds to import and ``floodwatch --help`` must not:
until then a command is its name and the one line said here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from monitor.version import program_version

if TYPE_CHECKING:
    # typer keeps its click to itself; we only need the types of what we override.
    from typer._click import Command, Context

__all__ = ["COMMANDS", "LazyCommand", "command_group", "main"]


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """``attribute`` of ``module`` is a typer app or a function with typer's annotations."""

    module: str
    attribute: str
    summary: str

    def load(self) -> Command:
        """Import the module and make its command."""
        target = getattr(import_module(self.module), self.attribute)
        if isinstance(target, typer.Typer):
            return get_group(target)
        app = typer.Typer(add_completion=False)
        app.command()(target)
        return get_command(app)


COMMANDS: Final[dict[str, LazyCommand]] = {
    "demo": LazyCommand(
        "monitor.demo.command", "demo", "Watch misuse being found in a simulated stream."
    ),
    "worker": LazyCommand(
        "monitor.kafka_commands", "worker", "Run the detection on Kafka topics, as a group member."
    ),
    "topics": LazyCommand("monitor.kafka_commands", "topics", "Make and check the Kafka topics."),
    "dlq": LazyCommand(
        "monitor.dlq_command", "app", "See the records that could not be used; send them again."
    ),
    "store": LazyCommand(
        "monitor.store_command", "app", "Store what the workers publish; care for the database."
    ),
    "incidents": LazyCommand(
        "monitor.incidents_command", "app", "See incidents and why they are; say what they were."
    ),
    "simulate": LazyCommand(
        "monitor.simulator.command",
        "simulate",
        "Make events with planted attacks, and the truth beside.",
    ),
    "replay": LazyCommand(
        "monitor.replay_command", "replay", "Run recorded logs through the detection."
    ),
    "rules": LazyCommand(
        "monitor.rules_command", "app", "Check a pack's rules; list the columns they can use."
    ),
    "train": LazyCommand(
        "monitor.train_command", "train", "Train an anomaly model on recorded logs."
    ),
    "model": LazyCommand(
        "monitor.model_command", "app", "Keep anomaly models: compare, promote, roll back."
    ),
    "analyze": LazyCommand(
        "monitor.analyze_command", "app", "Score the rows of any table: outliers, series in time."
    ),
    "dashboards": LazyCommand(
        "dashboards.command", "app", "Draw the dashboards where there is no Grafana."
    ),
    "doctor": LazyCommand(
        "monitor.doctor", "doctor", "Say what is missing here and how to get it."
    ),
    "version": LazyCommand("monitor.version_command", "version", "Print the version."),
}


class _LazyGroup(TyperGroup):
    """Puts the real command in place of its stand-in when it is called."""

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, Command | None, list[str]]:
        if args and args[0] in COMMANDS:
            self.add_command(COMMANDS[args[0]].load(), args[0])
        return super().resolve_command(ctx, args)


def command_group() -> TyperGroup:
    """A new group with a stand-in for every command."""
    app = typer.Typer(cls=_LazyGroup, no_args_is_help=True)
    app.callback()(_floodwatch)
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    for name, command in COMMANDS.items():
        group.add_command(TyperCommand(name=name, help=command.summary))
    return group


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends with SystemExit: 0 done, 1 failed, 2 wrong usage or settings."""
    command_group()(args=arguments, prog_name="floodwatch")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"floodwatch {program_version()}")
        raise typer.Exit


def _floodwatch(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Find misuse in the event stream of a generative-video platform.

    Settings come from flags, FLOODWATCH_... variables and a file (--config), in this order.
    """
