"""What ``floodwatch dlq`` prints: for people, and the same as JSON."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rich.table import Column, Table
from rich.text import Text

from monitor.dlq_record import printable, readable_record
from monitor.kafka.dead_letters import Letter, Position, Unreadable
from monitor.kafka.redrive_plan import SENT_OUTCOMES, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rich.console import Console

    from monitor.kafka.dead_letter_summary import Summary
    from monitor.kafka.dead_letter_verdicts import Verdict
    from monitor.kafka.redrive_ledger import Ledger, LedgerEntry, LedgerNote, Trace
    from monitor.kafka.redrive_plan import Tally

__all__ = [
    "entry_facts",
    "entry_line",
    "print_letter",
    "print_summary",
    "print_tally",
    "show_facts",
    "summary_facts",
    "tally_facts",
    "time_text",
]

_OUTCOMES: Final[Mapping[Outcome, str]] = {
    Outcome.PASSES: "pass now",
    Outcome.FORCED: "still refused, sent all the same",
    Outcome.REFUSED: "still refused",
    Outcome.REDRIVEN: "driven again already",
    Outcome.UNSETTLED: "claimed by a re-drive under way or interrupted; the next one settles it",
    Outcome.ATTEMPTS: "driven again too often already (--max-attempts)",
    Outcome.CUT: "cut when they were put aside: have their source send them again",
    Outcome.NO_VALUE: "without a value: there is nothing to send",
    Outcome.NO_PARTITION: "their partition is no longer there",
    Outcome.ELSEWHERE: "about another topic than the one whose dead letters these are",
    Outcome.TOO_OLD: "older than 60 days: the ledger may have forgotten them",
    Outcome.UNREADABLE: "no dead letters: not written by floodwatch",
}


def time_text(time_ms: int) -> str:
    """A time in UTC; ``-`` where there is none, or none that a calendar has."""
    if time_ms < 0:
        return "-"
    try:
        return datetime.fromtimestamp(time_ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{time_ms} ms"


# -- list


def print_summary(console: Console, summary: Summary, *, limit: int) -> None:
    """The groups, the largest first, at most ``limit`` of them."""
    table = Table(
        Column("letters", justify="right"),
        Column("re-driven", justify="right"),
        Column("reason, path", overflow="fold"),
        Column("first, last (UTC)", no_wrap=True),
        Column("newest", overflow="fold"),
    )
    groups = summary.groups
    for key, group in groups[:limit]:
        what = Text.assemble((printable(key.reason), "bold"), "\n", printable(key.path))
        what.append(f"\n{printable(group.message)[:120]}", style="dim")
        table.add_row(
            f"{group.letters:,}",
            f"{group.redriven:,}",
            what,
            f"{time_text(group.first_ms)}\n{time_text(group.last_ms)}",
            Text("\n".join(str(position) for position in reversed(group.samples))),
        )
        table.add_section()
    if groups:
        console.print(table)
    left = sum(group.letters for _, group in groups[limit:]) + summary.left_out
    redriven = sum(group.redriven for _, group in groups)
    _say(console, f"{summary.letters:,} dead letters, {redriven:,} of them driven again")
    if left:
        _say(console, f"{left:,} of them are in further groups: --limit, or filter")
    if summary.unreadable_sample is not None:
        sample = summary.unreadable_sample
        _say(
            console,
            f"{summary.unreadable:,} records are no dead letters, the newest {sample.at}: "
            f"{printable(sample.message)}",
        )


def summary_facts(summary: Summary, *, limit: int) -> dict[str, Any]:
    """The same for machines; times in ms since the epoch."""
    return {
        "letters": summary.letters,
        "unreadable": summary.unreadable,
        "groups_left_out": max(0, len(summary.groups) - limit),
        "letters_in_no_group": summary.left_out,
        "groups": [
            {
                **key._asdict(),
                "letters": group.letters,
                "redriven": group.redriven,
                "first_ms": group.first_ms,
                "last_ms": group.last_ms,
                "message": group.message,
                "newest": [str(position) for position in reversed(group.samples)],
            }
            for key, group in summary.groups[:limit]
        ],
    }


def entry_facts(letter: Letter | Unreadable, ledger: Ledger) -> dict[str, Any]:
    """An entry in a line, without its bytes, for machines."""
    if isinstance(letter, Unreadable):
        at = {"letter": str(letter.at), "written_ms": letter.written_ms}
        return {**at, "unreadable": letter.message}
    record = letter.record
    return {
        "letter": str(letter.at),
        "source": str(letter.source),
        "written_ms": letter.written_ms,
        "received_ms": record.source.timestamp_ms,
        "reason": record.reason,
        "path": record.path,
        "message": record.message,
        "size_bytes": record.raw_size_bytes,
        "truncated": record.truncated,
        "attempts": ledger.attempts(letter.id),
        "redriven": ledger.is_redriven(letter.id),
    }


def entry_line(letter: Letter | Unreadable, ledger: Ledger) -> str:
    """The same for people."""
    if isinstance(letter, Unreadable):
        why = f"no dead letter: {printable(letter.message)}"
        return f"{time_text(letter.written_ms)}  {letter.at}  {why}"
    record = letter.record
    again = "  driven again" if ledger.is_redriven(letter.id) else ""
    attempts = ledger.attempts(letter.id)
    attempt = f"  attempts: {attempts}" if attempts else ""
    why = f"{record.reason} at {record.path}: {record.message}"
    return f"{time_text(letter.written_ms)}  {letter.source}  {printable(why)}{attempt}{again}"


# -- show


def print_letter(
    console: Console, letter: Letter, trace: Trace, verdict: Verdict | None, others: int
) -> None:
    """Everything about a letter; ``verdict`` is what decoding says now, None if it cannot."""
    grid = Table.grid(Column(style="bold", no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for name, said in _letter_lines(letter, trace, verdict, others):
        grid.add_row(name, Text(said))
    console.print(grid)
    if letter.raw:
        console.print()
        record = letter.record
        for line in readable_record(letter.raw, path=record.path, message=record.message):
            console.print(line, soft_wrap=True)


def _letter_lines(
    letter: Letter, trace: Trace, verdict: Verdict | None, others: int
) -> Iterator[tuple[str, str]]:
    record = letter.record
    yield "record", f"{letter.source}, received {time_text(record.source.timestamp_ms)} UTC"
    again = f"; written {others} times more" if others else ""
    yield "dead letter", f"{letter.at}, written {time_text(letter.written_ms)} UTC{again}"
    yield "reason", printable(record.reason)
    yield "path", printable(record.path)
    yield "message", printable(record.message)
    yield "key", _bytes_text(letter.key) + (" (may be cut)" if letter.key_may_be_cut else "")
    for name, value in letter.headers:
        yield "header", f"{printable(name)}: {_bytes_text(value)}"
    yield "size", _size_text(letter)
    if trace.came_from is not None and trace.came_from.entry is not None:
        entry = trace.came_from.entry
        origin = Position(record.source.topic, entry.partition, entry.offset)
        yield "attempts", f"{entry.attempt}: it was driven again before, from {origin}"
    yield "re-driven", _redriven_text(letter, trace.redriven)
    yield "now", _verdict_text(verdict)


def _size_text(letter: Letter) -> str:
    if letter.raw is None:
        return "no value (a tombstone)"
    if letter.record.truncated:
        kept = f"only the first {len(letter.raw):,} were kept"
        return f"{letter.record.raw_size_bytes:,} bytes, {kept}: it cannot be driven again"
    return f"{len(letter.raw):,} bytes"


def _redriven_text(letter: Letter, note: LedgerNote | None) -> str:
    if note is None or note.entry is None:
        return "no"
    entry = note.entry
    if entry.sent is None:
        return f"claimed {time_text(note.time_ms)} UTC, under way or interrupted"
    return f"{time_text(note.time_ms)} UTC to {_place(letter, entry)}, attempt {entry.attempt}"


def _place(letter: Letter, entry: LedgerEntry) -> str | None:
    """Where the letter was sent to; None while that is not known."""
    if entry.sent is None:
        return None
    return str(Position(letter.record.source.topic, entry.partition, entry.sent.offset))


def _verdict_text(verdict: Verdict | None) -> str:
    if verdict is None:
        return "cannot be said: its bytes are not all here"
    if not verdict.passes:
        return printable(f"would be refused: {verdict.reason} at {verdict.path}: {verdict.message}")
    event = f"{verdict.type} of {printable(verdict.user_id)} at {time_text(verdict.time_ms)} UTC"
    late = "; older than the longest window: may count as late only" if verdict.late else ""
    return f"would pass: {event}{late}"


def show_facts(letter: Letter, trace: Trace, verdict: Verdict | None) -> dict[str, Any]:
    """The same for machines: ``raw`` in base64, ``text`` if it is UTF-8."""
    record = letter.record
    came_from = trace.came_from.entry if trace.came_from else None
    redriven = trace.redriven.entry if trace.redriven else None
    return {
        "letter": str(letter.at),
        "source": str(letter.source),
        "written_ms": letter.written_ms,
        "received_ms": record.source.timestamp_ms,
        "reason": record.reason,
        "path": record.path,
        "message": record.message,
        "key": _text(letter.key),
        "headers": {name: _text(value) for name, value in letter.headers},
        "size_bytes": record.raw_size_bytes,
        "truncated": record.truncated,
        "raw": None if letter.raw is None else b64encode(letter.raw).decode("ascii"),
        "text": _text(letter.raw),
        "attempts": came_from.attempt if came_from else 0,
        "redriven": redriven is not None and redriven.sent is not None,
        "redriven_to": None if redriven is None else _place(letter, redriven),
        "claimed": redriven is not None and redriven.sent is None,
        "passes_now": None if verdict is None else verdict.passes,
        "refused_now": None if verdict is None or verdict.passes else _refusal(verdict),
        "late_now": None if verdict is None else verdict.late,
    }


def _refusal(verdict: Verdict) -> dict[str, str]:
    return {"reason": verdict.reason, "path": verdict.path, "message": verdict.message}


def _text(raw: bytes | None) -> str | None:
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError:
        return None


def _bytes_text(raw: bytes | None) -> str:
    if raw is None:
        return "none"
    text = _text(raw)
    return f"hexadecimal {raw.hex(' ')}" if text is None else printable(text)


# -- redrive


def print_tally(console: Console, source: str, tally: Tally, *, settled: int) -> None:
    """What became of the dead letters of ``source``."""
    if settled:
        _say(
            console,
            f"{source}: {settled:,} letters of a re-drive that was interrupted had been sent",
        )
    if not tally.letters:
        _say(console, f"{source}: no dead letters that match")
        return
    table = Table(
        Column("letters", justify="right"),
        Column("what becomes of them", overflow="fold"),
        Column("decoding says now", overflow="fold"),
        title=source,
        title_justify="left",
    )
    ordered = sorted(
        tally.outcomes.items(), key=lambda item: (item[0][0] not in SENT_OUTCOMES, -item[1])
    )
    for (outcome, reason, path), count in ordered:
        now = f"{reason} at {path}" if reason else ""
        style = "green" if outcome in SENT_OUTCOMES else ""
        table.add_row(f"{count:,}", _OUTCOMES[outcome], Text(printable(now)), style=style)
    console.print(table)
    if tally.late:
        _say(
            console,
            f"{tally.late:,} of those sent are older than the longest window: where their user has "
            "newer events they count as late and find nothing; replay finds it",
        )
    if tally.of(Outcome.REFUSED):
        _say(console, "what is still refused can be sent with --all, to be refused again")
    if tally.limited:
        _say(console, "--limit was reached; there are more")


def tally_facts(source: str, tally: Tally, *, settled: int) -> dict[str, Any]:
    """The same for machines."""
    return {
        "topic": source,
        "letters": tally.letters,
        "sent": tally.sent,
        "late": tally.late,
        "settled": settled,
        "limited": tally.limited,
        "outcomes": [
            {"outcome": outcome.value, "reason": reason, "path": path, "letters": count}
            for (outcome, reason, path), count in sorted(tally.outcomes.items())
        ],
    }


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
