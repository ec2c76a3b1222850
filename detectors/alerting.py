"""From rules that held to outputs: alerts with their evidence, incidents, decisions.

Every stage has one ``Alerting``, whatever its rules are about. It goes through what a batch gave in
log order, so that the outputs are the same however the log is cut.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from detectors.batch import CONTEXT_COLUMNS
from detectors.incidents import (
    Alert,
    Decision,
    Incident,
    IncidentTracker,
    Output,
    stable_id,
)
from detectors.pressure import AlertBound, AlertBudget, measured

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import polars as pl

    from detectors.anomaly import Explanation
    from detectors.group_alerts import Group
    from detectors.pack import Action
    from detectors.rules import Condition, Rule

__all__ = ["Alerting", "Finding", "Moment", "Notice", "Sheet"]

_MAX_SUMMARY_CHARACTERS: Final = 240
_MOST_DECISIONS: Final = 100
"""Of one alert about a group. A rule that errs should not stop a platform."""
_MIN_INCIDENTS_OF_A_RULE: Final = 1_000


@dataclass(frozen=True, slots=True)
class Sheet:
    """The rows that rules were evaluated on, with every column that they read.

    ``explain`` takes an anomaly score apart: a row and an event time to what pushed it. ``group``
    tells who is meant, where a row is about several users.
    """

    frame: pl.DataFrame
    explain: Callable[[int, int], Explanation | None] | None = None
    explained_columns: frozenset[str] = frozenset()
    group: Callable[[int], Group] | None = None

    def cells(self, row: int, columns: Iterable[str]) -> dict[str, Any]:
        """Some cells of one row: ten times faster than to select the columns."""
        return {name: self.frame.item(row, name) for name in columns}


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that held at a row of a sheet, for a key."""

    rule: Rule
    key: str
    sheet: Sheet
    row: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to say about the monitor itself: a built-in rule, its key, what was measured."""

    rule: Rule
    key: str
    measurements: dict[str, float]


@dataclass(slots=True)
class Moment:
    """What there is to say at one event: decisions that stand, notices, findings; in this order.

    ``time_ms`` is the event's, ``now_ms`` the newest until then. ``sheet`` and ``row`` are the
    event, for the context of notices.
    """

    time_ms: int
    now_ms: int
    sheet: Sheet
    row: int
    decisions: list[Decision] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


class Alerting:
    """Cooldown, the bound on alerts, incidents and decisions of the ``rules`` of one stage.

    Some of ``room`` rules can open incidents: those and the ones about the monitor itself.
    """

    def __init__(
        self, pack_version: str, rules: Sequence[Rule], alert_storm: Rule, room: int
    ) -> None:
        self._pack_version = pack_version
        self._alert_storm = alert_storm
        self.incidents = IncidentTracker()
        self.incidents.rule_capacity = max(
            _MIN_INCIDENTS_OF_A_RULE, self.incidents.capacity // room
        )
        self.budget = AlertBudget.of((rule.spec.id for rule in rules), AlertBound())

    def outputs(
        self, moments: Iterable[Moment], findings: Counter[str], shed: Counter[str]
    ) -> Iterator[Output]:
        """Go through moments in log order; counts findings, and those held back by the bound."""
        for moment in moments:
            yield from self.incidents.close_due(moment.now_ms)
            yield from moment.decisions
            for notice in moment.notices:
                yield from self._notify(notice, moment)
            for finding in moment.findings:
                rule, rule_id = finding.rule, finding.rule.spec.id
                findings[rule_id] += 1
                if self.incidents.suppress(rule, finding.key, moment.time_ms):
                    continue
                if self.budget.take(rule_id, moment.now_ms):
                    cells = finding.sheet.cells(finding.row, rule.when.columns)
                    yield from self._alert(finding, rule.evidence(cells), moment.time_ms)
                else:
                    shed[rule_id] += 1
                    self.incidents.shed(rule, finding.key, moment.time_ms)
                    storm = self.budget.storm(rule_id, moment.now_ms)
                    yield from self._notify(Notice(self._alert_storm, rule_id, storm), moment)

    def close_due(self, watermark_ms: int) -> Iterator[Output]:
        """Close the incidents whose time has come."""
        return self.incidents.close_due(watermark_ms)

    def _notify(self, notice: Notice, moment: Moment) -> Iterator[Output]:
        """Alert on the monitor itself, unless that is in cooldown."""
        if not self.incidents.suppress(notice.rule, notice.key, moment.now_ms):
            evidence = measured(notice.rule, notice.measurements)
            about = Finding(notice.rule, notice.key, moment.sheet, moment.row)
            yield from self._alert(about, evidence, moment.now_ms)

    def _alert(
        self, finding: Finding, evidence: tuple[Condition, ...], time_ms: int
    ) -> Iterator[Output]:
        """An alert with its incident and, if the rule acts, its decision."""
        rule, key = finding.rule, finding.key
        event_id = finding.sheet.frame["event_id"][finding.row]
        incident = self.incidents.alert(rule, key, time_ms, event_id)
        alert = self._explained(finding, incident, evidence, time_ms, event_id)
        incident.suppressed = 0
        yield incident.update("opened" if incident.alerts == 1 else "updated", time_ms)
        yield alert
        if rule.spec.action is not None and rule.spec.mode == "live":
            yield from _decisions(alert, rule.spec.action)
        yield from self.incidents.evict_over_rule_capacity(rule)
        yield from self.incidents.evict_over_capacity()

    def _explained(
        self,
        finding: Finding,
        incident: Incident,
        evidence: tuple[Condition, ...],
        time_ms: int,
        event_id: str,
    ) -> Alert:
        rule, sheet = finding.rule, finding.sheet
        spec = rule.spec
        anomaly = None
        if sheet.explain is not None and rule.when.columns & sheet.explained_columns:
            anomaly = sheet.explain(finding.row, time_ms)
        group = None if sheet.group is None else sheet.group(finding.row)
        # What was measured comes first: the summary may be cut.
        held = "; ".join(
            str(condition)
            for condition in sorted(evidence, key=lambda condition: condition.operator == "=")
            if condition.holds
        )
        said = anomaly.main if anomaly else held
        if group is not None:
            said = f"{len(group.members) + group.members_left_out} users; {group.statement}"
        return Alert(
            alert_id=stable_id("alr", incident.incident_id, incident.alerts),
            incident_id=incident.incident_id,
            rule_id=spec.id,
            rule_version=rule.version,
            pack_version=self._pack_version,
            title=spec.title,
            severity=spec.severity,
            mode=spec.mode,
            key_space=spec.key,
            key=incident.key,
            time_ms=time_ms,
            event_id=event_id,
            sequence=incident.alerts,
            suppressed=incident.suppressed,
            summary=f"{spec.title}: {said}"[:_MAX_SUMMARY_CHARACTERS],
            evidence=evidence,
            context=_context(sheet, finding.row),
            runbook=spec.runbook,
            tags=spec.tags,
            action=spec.action,
            anomaly=anomaly,
            group=group,
        )


def _decisions(alert: Alert, action: Action) -> Iterator[Decision]:
    """What an alert decides: about its user, or about the core of its group."""
    users = [alert.key]
    if alert.group is not None:
        core = [member.user_id for member in alert.group.members if member.core]
        users = core[:_MOST_DECISIONS]
    for user_id in users:
        about = (alert.alert_id,) if alert.group is None else (alert.alert_id, user_id)
        yield Decision(
            decision_id=stable_id("dec", *about),
            user_id=user_id,
            kind=action.kind,
            scope=action.scope,
            reason=f"rule:{alert.rule_id}",
            time_ms=alert.time_ms,
            expires_ms=alert.time_ms + action.duration_ms,
            alert_id=alert.alert_id,
        )


def _context(sheet: Sheet, row: int) -> Mapping[str, Any]:
    columns = (name for name in CONTEXT_COLUMNS if name in sheet.frame.columns)
    cells = sheet.cells(row, columns)
    return {name: value for name, value in cells.items() if value is not None}
