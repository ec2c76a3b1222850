"""``floodwatch incidents list|show|ack|verdict|snooze|note``: what the on-call engineer does."""

from __future__ import annotations

import getpass
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer
from rich.console import Console

from detectors.errors import near_match
from detectors.pack import SEVERITIES
from monitor.durations import parse_duration_ms, parse_moment_ms
from monitor.failures import USAGE, stop_on
from monitor.incident_page import print_dossier
from monitor.incidents_display import print_page, short_id, time_text
from monitor.options import ConfigOption
from monitor.settings_sources import ConfigurationError, load_settings
from monitor.store.errors import StoreError, UnknownIncidentError
from monitor.store.people import People, StoredVerdict, Verdict
from monitor.store.reading import IncidentFilter, Incidents
from monitor.store.store import wall_clock_ms
from monitor.store_opening import open_existing
from monitor.verdict_events import VerdictPublishError, publish_verdict, subjects_of

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from detectors.pack import Severity
    from monitor.config import Settings

__all__ = ["app"]

app = typer.Typer(help="See incidents and why they are; say what they were.", no_args_is_help=True)

_PIPE_COLUMNS: Final = 120
_LONGEST_SNOOZE_MS: Final = 30 * 86_400_000
_VERDICTS: Final[dict[str, Verdict]] = {
    "abuse": "abuse",
    "benign": "benign",
    "unclear": "unclear",
    "true-positive": "abuse",
    "false-positive": "benign",
}

_Name: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="INCIDENT",
        help="The id, its beginning if only one begins so, or 'latest'.",
        show_default=False,
    ),
]
_Store: TypeAlias = Annotated[
    str | None,
    typer.Option("--store", help="URL of the database. [default: store.url, or the demo's]"),
]
_Author: TypeAlias = Annotated[
    str | None, typer.Option("--as", help="Who says so. [default: the name of this login]")
]
_Reason: TypeAlias = Annotated[str, typer.Option(help="Why, for those who come after.")]
_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="For machines.")]


class ArgumentError(ValueError):
    """What was asked for cannot be."""


@app.command(name="list")
def list_(  # noqa: PLR0913 - the parameters are the command's options
    severity: Annotated[
        str | None, typer.Option(help=f"At least this severe: {', '.join(SEVERITIES)}.")
    ] = None,
    rule: Annotated[str | None, typer.Option(help="Only this rule.")] = None,
    key: Annotated[str | None, typer.Option(help="Only this user, asset, campaign, ...")] = None,
    since: Annotated[
        str | None,
        typer.Option(help="With a finding then or later: 2h ago, or 2026-03-02T09:00 (UTC)."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 20,
    *,
    open_only: Annotated[
        bool, typer.Option("--open", help="Only open ones, without those snoozed.")
    ] = False,
    as_json: _Json = False,
    store: _Store = None,
    config: ConfigOption = None,
) -> None:
    """List incidents, the newest finding first."""
    settings, now_ms = _settings(store, config), wall_clock_ms()
    with stop_on(ArgumentError, exit_code=USAGE):
        wanted = IncidentFilter(
            open_only=open_only,
            severity=_severity(severity),
            rule_id=rule,
            key=key,
            since_ms=_since_ms(since, now_ms),
        )
    with _opened(settings) as engine:
        page = Incidents(engine).page(wanted, limit)
    if as_json:
        _print_json(asdict(page))
    else:
        print_page(_console(), page, now_ms=now_ms)


@app.command()
def show(
    name: _Name, *, as_json: _Json = False, store: _Store = None, config: ConfigOption = None
) -> None:
    """Show all that is known of an incident: why it fired, what was done, what to do."""
    with _opened(_settings(store, config)) as engine:
        incidents = Incidents(engine)
        dossier = incidents.dossier(incidents.resolve(name))
    if as_json:
        _print_json(asdict(dossier))
    else:
        print_dossier(_console(), dossier, now_ms=wall_clock_ms())


@app.command()
def ack(
    name: _Name, author: _Author = None, store: _Store = None, config: ConfigOption = None
) -> None:
    """Say that you are on it. Whoever was first stays."""
    with _acting(name, author, _settings(store, config)) as act:
        done = act.people.acknowledge(act.incident_id, act.author)
    if done.new:
        typer.echo(f"{act.incident_id}: {done.author} is on it")
    else:
        typer.echo(f"{act.incident_id}: {done.author} is on it since {time_text(done.time_ms)} UTC")


@app.command()
def verdict(
    name: _Name,
    said: Annotated[
        str,
        typer.Argument(
            metavar="VERDICT",
            help="abuse (or true-positive), benign (or false-positive), unclear.",
            show_default=False,
        ),
    ],
    reason: _Reason = "",
    author: _Author = None,
    brokers: Annotated[
        str | None,
        typer.Option(help="host:port, several separated by commas: tell the detection there."),
    ] = None,
    store: _Store = None,
    config: ConfigOption = None,
) -> None:
    """Say what it was. Where a broker is configured, the detection is told too.

    It is an event about each user of the incident. Saying the same again does nothing, except for
    telling the detection where that failed.
    """
    settings = _settings(store, config, brokers)
    with stop_on(ArgumentError, exit_code=USAGE):
        chosen = _verdict(said)
    with _acting(name, author, settings) as act:
        given = act.people.judge(act.incident_id, chosen, reason, act.author)
        again = "" if given.new else ", as before"
        typer.echo(f"{act.incident_id}: {given.verdict}, says {given.author}{again}")
        _tell_detection(act, given, settings)


@app.command()
def snooze(
    name: _Name,
    duration: Annotated[
        str, typer.Option("--for", help="How long: 30m, 2h, 1d; 0s ends it.")
    ] = "2h",
    reason: _Reason = "",
    author: _Author = None,
    store: _Store = None,
    config: ConfigOption = None,
) -> None:
    """Let it wake nobody for a while: this incident, and later ones of its rule and key."""
    settings = _settings(store, config)
    with stop_on(ArgumentError, exit_code=USAGE):
        for_ms = _duration_ms(duration)
    with _acting(name, author, settings) as act:
        until_ms = act.people.snooze(act.incident_id, for_ms, reason, act.author)
    until = f"snoozed until {time_text(until_ms)} UTC" if for_ms else "not snoozed any more"
    typer.echo(f"{act.incident_id}: {until}")


@app.command()
def note(
    name: _Name,
    text: Annotated[str, typer.Argument(help="What to write down.", show_default=False)],
    author: _Author = None,
    store: _Store = None,
    config: ConfigOption = None,
) -> None:
    """Write something down for those who come after."""
    settings = _settings(store, config)
    with stop_on(ArgumentError, exit_code=USAGE):
        if not text.strip():
            raise ArgumentError("the note is empty")
    with _acting(name, author, settings) as act:
        act.people.note(act.incident_id, text, act.author)
    typer.echo(f"{act.incident_id}: noted")


# -- what they are made of


@dataclass(frozen=True, slots=True)
class _Act:
    """Somebody who does something to an incident."""

    incidents: Incidents
    people: People
    incident_id: str
    author: str


def _settings(store: str | None, config: Path | None, brokers: str | None = None) -> Settings:
    with stop_on(ConfigurationError, exit_code=USAGE):
        return load_settings(
            {"store": {"url": store}, "kafka": {"brokers": brokers}},
            config=config,
            environ=os.environ,
        )


@contextmanager
def _opened(settings: Settings) -> Iterator[Engine]:
    with stop_on(UnknownIncidentError, StoreError):
        engine = open_existing(settings)
        try:
            yield engine
        finally:
            engine.dispose()


@contextmanager
def _acting(name: str, author: str | None, settings: Settings) -> Iterator[_Act]:
    with stop_on(ArgumentError, exit_code=USAGE):
        who = _author(author)
    with _opened(settings) as engine:
        incidents = Incidents(engine)
        yield _Act(incidents, People(engine), incidents.resolve(name), who)


def _tell_detection(act: _Act, given: StoredVerdict, settings: Settings) -> None:
    """Publish a verdict that was not yet, if we know where; an error if that fails."""
    if given.published_ms is not None:
        return
    subjects = subjects_of(act.incidents.dossier(act.incident_id))
    if not subjects:
        typer.echo("the incident names no user: there is nobody to tell the detection about")
        return
    if "brokers" not in settings.kafka.model_fields_set:
        typer.echo("the detection was not told: no broker is configured (--brokers, kafka.brokers)")
        return
    again = f"floodwatch incidents verdict {short_id(given.incident_id)} {given.verdict}"
    try:
        publish_verdict(
            settings.kafka.brokers.split(","),
            settings.kafka.topics.feedback_events,
            given,
            subjects,
        )
    except VerdictPublishError as error:
        typer.secho(
            f"error: it is stored, but the detection was not told: {error}; do it with '{again}'",
            err=True,
            fg=typer.colors.RED,
        )
        raise typer.Exit(1) from error
    act.people.published(given.verdict_id)
    count = len(subjects)
    typer.echo(f"the detection was told about {count:,} {'user' if count == 1 else 'users'}")


def _author(given: str | None) -> str:
    if given is not None:
        if not given.strip():
            raise ArgumentError("--as: a name is needed")
        return given
    try:
        return getpass.getuser()
    except (OSError, KeyError) as error:
        raise ArgumentError("this login has no name: say who you are with --as") from error


def _severity(given: str | None) -> Severity | None:
    if given is not None and given not in SEVERITIES:
        hint = near_match(given, SEVERITIES) or f"there are {', '.join(SEVERITIES)}"
        raise ArgumentError(f"--severity: {given!r} is none; {hint}")
    return given


def _since_ms(given: str | None, now_ms: int) -> int | None:
    if given is None:
        return None
    try:
        return parse_moment_ms(given, now_ms)
    except ValueError as error:
        raise ArgumentError(f"--since: {error}") from error


def _duration_ms(given: str) -> int:
    try:
        for_ms = parse_duration_ms(given)
    except ValueError as error:
        raise ArgumentError(f"--for: {error}") from error
    if for_ms > _LONGEST_SNOOZE_MS:
        raise ArgumentError(f"--for: {given} is longer than 30d; tune the rule instead")
    return for_ms


def _verdict(given: str) -> Verdict:
    if given not in _VERDICTS:
        hint = near_match(given, _VERDICTS) or f"there are {', '.join(_VERDICTS)}"
        raise ArgumentError(f"{given!r} is no verdict; {hint}")
    return _VERDICTS[given]


def _console() -> Console:
    """As wide as the terminal; wide where there is none."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS, highlight=False)


def _print_json(facts: dict[str, Any]) -> None:
    typer.echo(json.dumps(facts, ensure_ascii=True))
