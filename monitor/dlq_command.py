"""``floodwatch dlq list|show|redrive``: what could not be used, and sending it again."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer
from rich.console import Console

from detectors.compiled import compile_pack
from detectors.errors import PackError
from monitor.dlq_arguments import ArgumentError, Place, letter_filter, parse_position
from monitor.dlq_display import (
    entry_facts,
    entry_line,
    print_letter,
    print_summary,
    print_tally,
    show_facts,
    summary_facts,
    tally_facts,
)
from monitor.failures import USAGE, stop_on
from monitor.kafka.dead_letter_summary import Summary
from monitor.kafka.dead_letter_verdicts import PresentDecoder
from monitor.kafka.dead_letters import (
    Letter,
    LetterFilter,
    Unreadable,
    find_letter,
    read_letters,
)
from monitor.kafka.errors import KafkaShellError
from monitor.kafka.library_logs import quiet_libraries
from monitor.kafka.log_reader import LogReader
from monitor.kafka.redrive import Redriver
from monitor.kafka.redrive_ledger import load_ledger, trace_letter
from monitor.kafka.redrive_plan import RedriveOptions, RedrivePlan, Tally
from monitor.kafka.topics import TopicNames
from monitor.options import ConfigOption, PackOption
from monitor.packs import load_pack
from monitor.settings_sources import ConfigurationError, load_settings

__all__ = ["app"]

app = typer.Typer(help="See what could not be used, and send it again.", no_args_is_help=True)

_PIPE_COLUMNS: Final = 160
_PROGRESS_EVERY: Final = 1_000

_Topic: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="Only this input topic (or its dead letters). Repeat it for several."),
]
_Reason: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="Only this reason. Repeat it for several.")
]
_Since: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Put aside then or later: 2h ago, or 2026-03-02T09:00 (UTC)."),
]
_Until: TypeAlias = Annotated[str | None, typer.Option(help="Put aside before then.")]
_Partition: TypeAlias = Annotated[
    int | None, typer.Option(min=0, help="Only this partition of the input topic.")
]
_Brokers: TypeAlias = Annotated[
    str | None, typer.Option(help="host:port, several separated by commas; else as configured.")
]
_Json: TypeAlias = Annotated[bool, typer.Option("--json", help="For machines.")]


@app.command(name="list")
def list_(  # noqa: PLR0913 - the parameters are the command's options
    topic: _Topic = None,
    reason: _Reason = None,
    since: _Since = None,
    until: _Until = None,
    partition: _Partition = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Most groups (the largest), or most letters with --each.")
    ] = 50,
    *,
    each: Annotated[bool, typer.Option("--each", help="Every letter in a line.")] = False,
    as_json: _Json = False,
    brokers: _Brokers = None,
    config: ConfigOption = None,
) -> None:
    """Say what is in the dead-letter topics: how much, why, since when, and examples."""
    place = _place(brokers, config)
    with stop_on(ArgumentError, exit_code=USAGE):
        topics = place.chosen(topic)
        wanted = letter_filter(reason, since, until, partition, now_ms=_now_ms())
    with stop_on(KafkaShellError):
        if each:
            _list_each(place, topics, wanted, limit, as_json=as_json)
        else:
            _list_groups(place, topics, wanted, limit, as_json=as_json)


@app.command()
def show(
    where: Annotated[
        list[str],
        typer.Argument(
            help="TOPIC[PARTITION]@OFFSET or TOPIC PARTITION OFFSET: of the dead letter, or of the "
            "record that was refused.",
            show_default=False,
        ),
    ],
    *,
    as_json: _Json = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Nothing but the bytes of the record, as they were.")
    ] = False,
    brokers: _Brokers = None,
    pack: PackOption = None,
    config: ConfigOption = None,
) -> None:
    """Show one dead letter: why, where, its bytes, and whether it would pass now."""
    place = _place(brokers, config, pack)
    with stop_on(ArgumentError, exit_code=USAGE):
        position = parse_position(where)
        source = place.source(position.topic)
    dead_letters = place.dead_letters[source]
    with stop_on(KafkaShellError):
        with LogReader(place.brokers) as reader:
            letter, others = find_letter(reader, dead_letters, position)
        if raw:
            sys.stdout.buffer.write(letter.raw or b"")
            return
        with LogReader(place.brokers, committed_only=True) as reader:
            trace = trace_letter(reader, dead_letters, letter.id)
    verdict = None
    if not letter.record.truncated:
        (verdict,) = _decoder(place.pack).verdicts([letter], _now_ms())
    if as_json:
        _print_json(show_facts(letter, trace, verdict))
    else:
        print_letter(_console(), letter, trace, verdict, others)


@app.command()
def redrive(  # noqa: PLR0913 - the parameters are the command's options
    topic: _Topic = None,
    reason: _Reason = None,
    since: _Since = None,
    until: _Until = None,
    partition: _Partition = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most so many.")] = None,
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be sent; send nothing.")
    ] = False,
    forced: Annotated[
        bool, typer.Option("--all", help="Also those that would be refused again.")
    ] = False,
    max_attempts: Annotated[
        int, typer.Option(min=1, max=100, help="Leave what was sent again so often already.")
    ] = 3,
    as_json: _Json = False,
    brokers: _Brokers = None,
    pack: PackOption = None,
    config: ConfigOption = None,
) -> None:
    """Send dead letters back to where they came from: those that would pass now, each once.

    Running it again, or after a crash, sends nothing twice.
    """
    place = _place(brokers, config, pack)
    with stop_on(ArgumentError, exit_code=USAGE):
        topics = place.chosen(topic)
        wanted = letter_filter(reason, since, until, partition, now_ms=_now_ms())
    decoder = _decoder(place.pack)
    options = RedriveOptions(forced=forced, max_attempts=max_attempts, limit=limit)
    console, facts, sent, letters = _console(), [], 0, 0
    with stop_on(KafkaShellError):
        for source in topics:
            if limit is not None:
                if sent == limit:
                    break
                options = replace(options, limit=limit - sent)
            tally, settled = _redrive(place, source, wanted, options, decoder, dry_run=dry_run)
            sent, letters = sent + tally.sent, letters + tally.letters
            facts.append(tally_facts(source, tally, settled=settled))
            if not as_json:
                print_tally(console, source, tally, settled=settled)
    if as_json:
        _print_json({"dry_run": dry_run, "sent": sent, "topics": facts})
    elif dry_run:
        typer.echo(f"dry run: {sent:,} of {letters:,} would be sent; nothing was")
    else:
        typer.echo(f"{sent:,} of {letters:,} sent")


# -- what the commands do


def _list_groups(
    place: Place, topics: Mapping[str, str], wanted: LetterFilter, limit: int, *, as_json: bool
) -> None:
    summary = Summary()
    missing, claimed = [], {}
    with (
        LogReader(place.brokers) as reader,
        LogReader(place.brokers, committed_only=True) as committed,
    ):
        for dead_letters in topics.values():
            if not reader.partitions(dead_letters):
                missing.append(dead_letters)
                continue
            ledger = load_ledger(committed, dead_letters)
            claimed[dead_letters] = len(ledger.claims)
            for entry in _watched(dead_letters, read_letters(reader, dead_letters, wanted)):
                summary.add(entry, ledger)
    if as_json:
        _print_json(
            {"missing_topics": missing, "claimed": claimed, **summary_facts(summary, limit=limit)}
        )
        return
    for dead_letters in missing:
        typer.echo(f"{dead_letters}: there is no such topic; 'floodwatch topics create' makes it")
    print_summary(_console(), summary, limit=limit)
    for dead_letters, count in claimed.items():
        if count:
            typer.echo(
                f"{dead_letters}: {count} letters are claimed by a re-drive that is under way or "
                "was interrupted; running 'floodwatch dlq redrive' again settles them"
            )


def _list_each(
    place: Place, topics: Mapping[str, str], wanted: LetterFilter, limit: int, *, as_json: bool
) -> None:
    """Prints while it reads."""
    with (
        LogReader(place.brokers) as reader,
        LogReader(place.brokers, committed_only=True) as committed,
    ):
        left = limit
        for dead_letters in topics.values():
            ledger = load_ledger(committed, dead_letters)
            entries = read_letters(reader, dead_letters, wanted)
            for entry in islice(entries, left):
                left -= 1
                if as_json:
                    _print_json(entry_facts(entry, ledger))
                else:
                    typer.echo(entry_line(entry, ledger))


def _redrive(
    place: Place,
    source: str,
    wanted: LetterFilter,
    options: RedriveOptions,
    decoder: PresentDecoder,
    *,
    dry_run: bool,
) -> tuple[Tally, int]:
    """Drive the letters of one source again; what became of them, and how many were settled."""
    dead_letters = place.dead_letters[source]
    with LogReader(place.brokers) as reader:
        partitions = reader.partitions(source)
        if not reader.partitions(dead_letters):
            return Tally(), 0
        entries = _watched(dead_letters, read_letters(reader, dead_letters, wanted))
        if dry_run:
            with LogReader(place.brokers, committed_only=True) as committed:
                ledger = load_ledger(committed, dead_letters)
            plan = RedrivePlan(source, partitions, ledger, decoder, options, now_ms=_now_ms)
            return plan.run(entries), 0
        with Redriver(place.brokers, source=source, dead_letters=dead_letters) as redriver:
            plan = RedrivePlan(
                source,
                partitions,
                redriver.ledger,
                decoder,
                options,
                now_ms=_now_ms,
                send=redriver.send,
            )
            return plan.run(entries), redriver.settled


# -- what they are made of


def _place(brokers: str | None, config: Path | None, pack: str | None = None) -> Place:
    # What they say goes to standard error beside ours; what matters of it is in our errors.
    quiet_libraries(logging.CRITICAL)
    with stop_on(ConfigurationError, exit_code=USAGE):
        settings = load_settings(
            {"pack": pack, "kafka": {"brokers": brokers}}, config=config, environ=os.environ
        )
    names = TopicNames(**settings.kafka.topics.model_dump())
    return Place(
        tuple(settings.kafka.brokers.split(",")),
        {source: names.dead_letters(source) for source in names.inputs},
        settings.pack,
    )


def _decoder(pack: str) -> PresentDecoder:
    with stop_on(PackError, exit_code=USAGE):
        compiled = compile_pack(load_pack(pack))
    longest_ms = max((window.length_ms for window in compiled.pack.windows), default=0)
    return PresentDecoder(compiled.event_columns, longest_ms)


def _now_ms() -> int:
    return int(time.time() * 1_000)


# -- printing


def _console() -> Console:
    """As wide as the terminal; wide where there is none."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_COLUMNS)


def _print_json(facts: object) -> None:
    typer.echo(json.dumps(facts, ensure_ascii=True))


def _watched(topic: str, entries: Iterable[Letter | Unreadable]) -> Iterator[Letter | Unreadable]:
    """The entries, with their number on a terminal's standard error while they are read."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield from entries
        return
    with console.status(f"reading {topic}") as status:
        for number, entry in enumerate(entries, 1):
            if number % _PROGRESS_EVERY == 0:
                status.update(f"reading {topic}: {number:,}")
            yield entry
