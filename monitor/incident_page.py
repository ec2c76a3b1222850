"""What ``floodwatch incidents show`` prints: everything that explains an incident, on one page.

It is read at night on a telephone: no frames, nothing that needs 80 columns, the reason first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from monitor.dlq_record import printable
from monitor.incidents_display import (
    QUIET,
    STATE_STYLES,
    ago_text,
    number_text,
    short_id,
    state_of,
    time_text,
)
from monitor.runbooks import find_runbook, first_steps, runbook_folders
from monitor.store.records import read_alert
from monitor.styles import SEVERITY_STYLES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, RenderableType

    from monitor.store.reading import Dossier, Record
    from monitor.store.records import StoredAlert, StoredAnomaly, StoredCondition, StoredGroup

__all__ = ["print_dossier"]

_SIGNS: Final = {">=": "≥", "<=": "≤", "!=": "≠", "==": "="}
_BARS: Final = "▁▂▃▄▅▆▇█"
_BAR_COLUMNS: Final = 10
_FEATURES_SHOWN: Final = 6
_MEMBERS_SHOWN: Final = 10
_KEYS_SHOWN: Final = 8
_EVENTS_SHOWN: Final = 5
_NAMES_SHOWN: Final = 6
_SUMMARY_SHOWN: Final = 200
_ROWS_SHOWN: Final = 6
_STEPS_SHOWN: Final = 5
_MINUTES_SHOWN: Final = 40
_BY_STATE: Final = {"opened": "opened", "updated": "went on", "closed": "closed"}


def print_dossier(console: Console, dossier: Dossier, *, now_ms: int) -> None:
    """The whole page."""
    _print_head(console, dossier, now_ms)
    read = [read_alert(record) for record in dossier.alerts]
    alerts = [alert for alert in read if alert is not None]
    newest = alerts[0] if alerts else None
    if newest is None:
        _section(console, "Why")
        reason = (
            "written by another version: 'floodwatch incidents show --json' has all of it"
            if dossier.alerts
            else "its alerts are not in the store (yet, or no longer)"
        )
        _say(console, Text(reason, QUIET))
    else:
        _print_why(console, newest)
        _print_event(console, newest)
    _print_decisions(console, dossier.decisions, now_ms)
    _print_history(console, dossier)
    _print_alerts(console, alerts, dossier.alerts_stored)
    _print_people(console, dossier, now_ms)
    if newest is not None:
        _print_runbook(console, newest.runbook)
    _print_next(console, dossier)


# -- the parts, in the order of the page


def _print_head(console: Console, dossier: Dossier, now_ms: int) -> None:
    incident = dossier.incident
    until_ms = None if dossier.snooze is None else dossier.snooze["until_ms"]
    state = state_of({**incident, "snoozed_until_ms": until_ms})
    severity = incident["severity"]
    console.print(Text(printable(incident["title"]), "bold"))
    line = Text.assemble((severity, SEVERITY_STYLES[severity]), " · ", (state, STATE_STYLES[state]))
    if incident["mode"] == "shadow":
        line.append(" · shadow: nothing is done by itself", QUIET)
    line.append(f" · {incident['key_space']} ").append(printable(incident["key"]), "bold cyan")
    console.print(line)
    last_ms = incident["last_finding_ms"]
    console.print(
        Text.assemble(
            ("opened ", QUIET),
            time_text(incident["opened_ms"]),
            (" UTC, newest finding ", QUIET),
            time_text(last_ms),
            (f" ({ago_text(last_ms, now_ms)})", QUIET),
        )
    )
    counts = f"{_many(incident['alerts'], 'alert')}, {_many(incident['findings'], 'finding')}"
    if dossier.earlier:
        counts += f"; {_many(dossier.earlier, 'other incident')} of this rule and key"
    console.print(
        Text.assemble(counts, (f"\nrule {incident['rule_id']} · {incident['incident_id']}", QUIET))
    )


def _print_why(console: Console, alert: StoredAlert) -> None:
    _section(console, "Why")
    _say(console, _conditions(alert.evidence))
    if alert.suppressed:
        _say(
            console, Text(f"{alert.suppressed:,} findings before this alert were held back", QUIET)
        )
    if alert.anomaly is not None:
        _print_anomaly(console, alert.anomaly)
    if alert.group is not None:
        _print_group(console, alert.group)


def _conditions(evidence: Iterable[StoredCondition]) -> Table:
    """Each condition: what held, its value, the threshold; those that did not hold at the end."""
    table = _grid("left", "right", "left")
    for condition in sorted(evidence, key=lambda one: not one.holds):
        sign = _SIGNS.get(condition.operator, condition.operator)
        style = "default" if condition.holds else QUIET
        bound = f"{sign} {number_text(condition.threshold)}"
        if sign == "=" and condition.holds:  # It says nothing more than the value.
            bound = " "
        table.add_row(
            Text(printable(condition.column), style),
            Text(number_text(condition.value), "bold" if condition.holds else QUIET),
            Text(bound if condition.holds else f"not {bound}", QUIET),
        )
    return table


def _print_anomaly(console: Console, anomaly: StoredAnomaly) -> None:
    _section(console, "Unlike others")
    rank = f"more unusual than {100 * anomaly.rank:.5g} % of the reference"
    _say(console, Text(f"score {anomaly.score:.2f}, {rank}"))
    table = _grid("left", "right", "right", "left")
    largest = max((abs(one.contribution) for one in anomaly.contributions), default=0.0)
    for one in anomaly.contributions[:_FEATURES_SHOWN]:
        length = round(_BAR_COLUMNS * abs(one.contribution) / largest) if largest else 0
        bar = Text("█" * length, "red" if one.contribution > 0 else "green")
        table.add_row(
            Text(printable(one.feature)),
            Text(number_text(one.value), "bold"),
            Text(f"above {one.percentile:.3g} %", QUIET),
            bar if one.contribution > 0 else bar.append(" lowers it", QUIET),
        )
    _say(console, table)
    for reason in anomaly.degraded:
        _say(console, Text(f"trust it less: {printable(reason)}", "yellow"))


def _print_group(console: Console, group: StoredGroup) -> None:
    count = len(group.members) + group.members_left_out
    _section(console, f"Together: {count:,} users")
    _say(console, Text(printable(group.statement)))
    pace = [f"{group.actions:,} actions", f"since {time_text(group.first_ms)[11:]}"]
    if group.median_gap_s is not None:
        pace.append(f"gap {group.median_gap_s:.3g} s in the middle")
    _say(console, Text(", ".join(pace), QUIET))
    for trait in group.traits:
        share = "?" if trait.share is None else f"{100 * trait.share:.3g} %"
        usual = "" if trait.usual is None else f", of others {100 * trait.usual:.3g} %"
        _say(console, Text(f"{share} {printable(trait.doc or trait.name)}{usual}"))
    if len(group.timeline) > 1:
        _say(console, _timeline(group.timeline))
    keys = len(group.keys) + group.keys_left_out
    _say(console, Text(f"on {_many(keys, 'key')} of {', '.join(group.key_spaces)}:", QUIET))
    table = _grid("left", "left", "left")
    for key in group.keys[:_KEYS_SHOWN]:
        others = "" if key.users is None else f" of {key.users:,} users"
        table.add_row(
            Text(key.key_space, QUIET),
            Text(printable(key.key), overflow="ellipsis", no_wrap=True),
            Text(f"{key.members:,}{others}", QUIET, no_wrap=True),
        )
    _say(console, table)
    _say_left_out(console, keys - min(len(group.keys), _KEYS_SHOWN), "keys")
    _say(console, Text("members, by keys in common (core first):", QUIET))
    names = Text()
    ranked = sorted(group.members, key=lambda member: (not member.core, -member.keys))
    for member in ranked[:_MEMBERS_SHOWN]:
        names.append("  " if names else "")
        names.append(printable(member.user_id), "bold" if member.core else "default")
        names.append(f"\N{NO-BREAK SPACE}{member.keys:g}", QUIET)
    _say(console, names)
    _say_left_out(console, count - min(len(group.members), _MEMBERS_SHOWN), "members")


def _timeline(timeline: Sequence[tuple[int, int]]) -> Text:
    """Actions by minute, the newest to the right."""
    counts = dict(timeline)
    last_ms = max(counts)
    first_ms = max(min(counts), last_ms - (_MINUTES_SHOWN - 1) * 60_000)
    largest = max(counts.values())
    bars = "".join(
        _BARS[-(-counts[at_ms] * (len(_BARS) - 1) // largest)] if at_ms in counts else " "
        for at_ms in range(first_ms, last_ms + 1, 60_000)
    )
    label = f" {time_text(first_ms)[11:16]}–{time_text(last_ms)[11:16]}, by minute"
    return Text.assemble((bars, "red"), (label, QUIET))


def _print_event(console: Console, alert: StoredAlert) -> None:
    _section(console, "The event that fired it")
    parts = Text()
    for name, value in alert.context.items():
        if value is None:
            continue
        parts.append("  " if parts else "")
        parts.append(f"{name}\N{NO-BREAK SPACE}", QUIET).append(number_text(value))
    if parts:
        _say(console, parts)
    events = list(dict.fromkeys((alert.event_id, *(alert.group.event_ids if alert.group else ()))))
    shown = [printable(event_id) for event_id in events[:_EVENTS_SHOWN]]
    _say(console, Text.assemble(("events ", QUIET), " ".join(shown)))
    _say_left_out(console, len(events) - len(shown), "events")


def _print_decisions(console: Console, decisions: Sequence[Record], now_ms: int) -> None:
    if not decisions:
        return
    _section(console, "Decided by itself")
    users: dict[tuple[str, str, int], list[str]] = {}
    for one in decisions:
        what = (one["kind"], one["scope"], one["expires_ms"])
        users.setdefault(what, []).append(printable(one["user_id"]))
    for (kind, scope, expires_ms), names in list(users.items())[-_ROWS_SHOWN:]:
        ended = ", which is over" if expires_ms <= now_ms else ""
        more = len(names) - _NAMES_SHOWN
        others = f" and {more:,} more users" if more > 0 else ""
        _say(
            console,
            Text.assemble(
                (kind, "yellow"),
                (f" {printable(scope)} ", "bold"),
                (f"until {time_text(expires_ms)}{ended}: ", QUIET),
                " ".join(names[:_NAMES_SHOWN]) + others,
            ),
        )
    _say_left_out(console, len(users) - _ROWS_SHOWN, "decisions")


def _print_history(console: Console, dossier: Dossier) -> None:
    _section(console, "History")
    table = _grid("left", "left", "left")
    for one in dossier.history[-_ROWS_SHOWN:]:
        table.add_row(
            Text(time_text(one["time_ms"])[5:], no_wrap=True),
            Text(_BY_STATE[one["state"]], "bold" if one["state"] != "updated" else "default"),
            Text(f"{_many(one['alerts'], 'alert')}, {_many(one['findings'], 'finding')}", QUIET),
        )
    _say(console, table)
    _say_left_out(console, len(dossier.history) - _ROWS_SHOWN, "earlier changes")


def _print_alerts(console: Console, alerts: Sequence[StoredAlert], stored: int) -> None:
    """What each alert said, where there are several."""
    if stored < 2:
        return
    _section(console, "Alerts, the newest first")
    for alert in alerts[:_ROWS_SHOWN]:
        summary = printable(alert.summary.removeprefix(f"{alert.title}: "))
        if len(summary) > _SUMMARY_SHOWN:
            summary = summary[: _SUMMARY_SHOWN - 1] + "…"
        _say(console, Text.assemble((time_text(alert.time_ms)[5:], QUIET), f" {summary}"))
    _say_left_out(console, stored - min(len(alerts), _ROWS_SHOWN), "alerts")


def _print_people(console: Console, dossier: Dossier, now_ms: int) -> None:
    rows: list[tuple[int, Text]] = []
    if dossier.acknowledged is not None:
        rows.append(_person(dossier.acknowledged, "is on it"))
    rows += [
        _person(one, f"verdict: {one['verdict']}", one["reason"], not_told=not one["published_ms"])
        for one in dossier.verdicts
    ]
    if dossier.snooze is not None:
        until_ms = dossier.snooze["until_ms"]
        said = f"snoozed until {time_text(until_ms)} ({ago_text(until_ms, now_ms)})"
        rows.append(_person(dossier.snooze, said, dossier.snooze["reason"]))
    rows += [_person(one, "", one["text"]) for one in dossier.notes]
    if not rows:
        return
    _section(console, "People")
    for _, text in sorted(rows, key=lambda row: row[0]):
        _say(console, text)


def _person(
    record: Record, did: str, said: str = "", *, not_told: bool = False
) -> tuple[int, Text]:
    text = Text.assemble(
        (time_text(record["time_ms"])[5:16], QUIET), " ", (printable(record["author"]), "green")
    )
    if did:
        text.append(f" {did}", "bold")
    if not_told:
        text.append(" (the detection was not told)", QUIET)
    if said:
        text.append(f": {printable(said)}")
    return record["time_ms"], text


def _print_runbook(console: Console, runbook: str) -> None:
    _section(console, "Runbook")
    path = find_runbook(runbook, runbook_folders())
    _say(console, Text(printable(str(path or runbook)), "cyan"))
    steps = [] if path is None else first_steps(path.read_text(encoding="utf-8"))
    table = _grid("right", "left")
    for number, step in enumerate(steps[:_STEPS_SHOWN], 1):
        table.add_row(Text(f"{number}.", QUIET), Text(step))
    if steps:
        _say(console, table)


def _print_next(console: Console, dossier: Dossier) -> None:
    name = short_id(dossier.incident["incident_id"])
    _section(console, "Next")
    for command in ("ack", "verdict abuse|benign|unclear", "snooze --for 2h", "note"):
        verb, _, rest = command.partition(" ")
        _say(
            console,
            Text.assemble(
                ("floodwatch incidents ", QUIET), f"{verb} {name}", f" {rest}" if rest else ""
            ),
        )


# -- how they are printed


def _section(console: Console, title: str) -> None:
    console.print()
    console.print(Text(title, "bold underline"))


def _say(console: Console, content: RenderableType) -> None:
    console.print(Padding(content, (0, 0, 0, 2), expand=False))


def _say_left_out(console: Console, count: int, what: str) -> None:
    if count > 0:
        _say(console, Text(f"and {count:,} more {what}", QUIET))


def _grid(*justify: Any) -> Table:  # noqa: ANN401 - rich's literal type is not public
    table = Table.grid(padding=(0, 2, 0, 0))
    for side in justify:
        table.add_column(justify=side)
    return table


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
