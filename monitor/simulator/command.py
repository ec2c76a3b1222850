"""``floodwatch simulate``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from monitor.simulator.engine import DEFAULT_START_MS
from monitor.simulator.errors import SimulationError
from monitor.simulator.run import SimulateOptions, run
from monitor.simulator.scenario import builtin_scenarios

__all__ = ["simulate"]


def _parse_start(text: str) -> int:
    """Milliseconds since the epoch of an ISO 8601 time (UTC where it names no zone) or ``now``."""
    if text == "now":
        return int(datetime.now(tz=UTC).timestamp() * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is not a time such as 2026-03-02T09:00, or now"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def simulate(
    out: Annotated[
        str,
        typer.Option(
            help="Where the events go: a name that ends in .ndjson, .ndjson.zst or .parquet, "
            "or kafka://host:port."
        ),
    ],
    scenario: Annotated[
        str,
        typer.Option(help=f"A scenario file (.yaml) or one of: {', '.join(builtin_scenarios())}."),
    ] = "all-attacks",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same events.")] = 1,
    users: Annotated[
        int | None, typer.Option(min=1, help="Honest accounts. [default: the scenario's]")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes of event time. [default: the scenario's]")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Honest events per second. [default: by users and hour]")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="First moment, ISO 8601 or now. [default: 2026-03-02T09:00Z]")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="Stem of the files with the ground truth. [default: that of --out]"),
    ] = None,
) -> None:
    """Make events of a platform with honest users and planted attacks, with the truth beside.

    The events go to --out; NAME.labels.parquet says which of them belong to which attack,
    NAME.actors.parquet who the attackers are.
    """
    options = SimulateOptions(
        scenario=scenario,
        out=out,
        seed=seed,
        users=users,
        minutes=minutes,
        events_per_s=rate,
        start_ms=DEFAULT_START_MS if start is None else _parse_start(start),
        labels=labels,
    )
    try:
        result = run(options)
    except SimulationError as error:
        typer.echo(f"floodwatch simulate: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(result.summary())
