"""What a replay found, counted: for ``summary.json`` and for eyes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from detectors.incidents import Alert, Decision, IncidentUpdate
from detectors.pack import SEVERITIES, Severity
from monitor.cloudevents import rfc3339
from monitor.demo.view import clean
from monitor.styles import SEVERITY_STYLES

if TYPE_CHECKING:
    from monitor.pipeline import PipelineResult

__all__ = ["ReplaySummary"]

_TOP_KEYS: Final = 10
_Name = TypeVar("_Name", str, tuple[str, str])


@dataclass(slots=True)
class ReplaySummary:
    """Counts over all results of a replay; feed it with ``add``."""

    pack: str
    pack_version: str
    files: list[str]
    partitions: int
    events: Counter[str] = field(default_factory=Counter)
    late: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    rule_errors: Counter[str] = field(default_factory=Counter)
    alerts_by_rule: Counter[str] = field(default_factory=Counter)
    alerts_by_severity: Counter[str] = field(default_factory=Counter)
    severity_of_rule: dict[str, Severity] = field(default_factory=dict)
    alerts_by_mode: Counter[str] = field(default_factory=Counter)
    alerts_by_key: Counter[tuple[str, str]] = field(default_factory=Counter)
    incidents: int = 0
    decisions: Counter[str] = field(default_factory=Counter)
    first_ms: int | None = None
    last_ms: int | None = None
    evicted: int = 0
    elapsed_s: float = 0.0

    def add(self, result: PipelineResult) -> None:
        """Count a result."""
        counts = result.counts
        self.events.update(counts.events)
        self.late += counts.late
        self.findings.update(counts.findings)
        self.rule_errors.update(counts.rule_errors)
        self.dead_letters.update(letter.reason.value for letter in result.dead_letters)
        for output in result.outputs:
            if isinstance(output, Alert):
                self.alerts_by_rule[output.rule_id] += 1
                self.alerts_by_severity[output.severity] += 1
                self.severity_of_rule[output.rule_id] = output.severity
                self.alerts_by_mode[output.mode] += 1
                self.alerts_by_key[output.key_space, output.key] += 1
            elif isinstance(output, IncidentUpdate):
                self.incidents += output.state == "opened"
            elif isinstance(output, Decision):
                self.decisions[output.kind] += 1

    def as_json(self) -> dict[str, Any]:
        """The content of ``summary.json``; counts by name, largest first."""
        return {
            "pack": self.pack,
            "pack_version": self.pack_version,
            "files": self.files,
            "partitions": self.partitions,
            "events": self.events.total(),
            "events_by_type": dict(_ranked(self.events)),
            "late_events": self.late,
            "dead_letters": self.dead_letters.total(),
            "dead_letters_by_reason": dict(_ranked(self.dead_letters)),
            "alerts": self.alerts_by_rule.total(),
            "alerts_by_rule": dict(_ranked(self.alerts_by_rule)),
            "alerts_by_severity": dict(_ranked(self.alerts_by_severity)),
            "alerts_by_mode": dict(_ranked(self.alerts_by_mode)),
            "findings_by_rule": dict(_ranked(self.findings)),
            "rule_errors": dict(_ranked(self.rule_errors)),
            "incidents": self.incidents,
            "decisions_by_kind": dict(_ranked(self.decisions)),
            "top_keys": [
                {"key_space": space, "key": key, "alerts": count}
                for (space, key), count in _ranked(self.alerts_by_key)[:_TOP_KEYS]
            ],
            "first_event_time": None if self.first_ms is None else rfc3339(self.first_ms),
            "last_event_time": None if self.last_ms is None else rfc3339(self.last_ms),
            "evicted_keys": self.evicted,
            "elapsed_s": round(self.elapsed_s, 3),
            "events_per_s": round(self.events.total() / max(self.elapsed_s, 1e-9)),
        }

    def print(self, console: Console) -> None:
        """Print what matters, within the width of the console."""
        _say(console, f"{self.events.total():,} events, pack {self.pack} {self.pack_version}")
        if self.first_ms is not None and self.last_ms is not None:
            span_h = (self.last_ms - self.first_ms) / 3_600_000
            first, last = rfc3339(self.first_ms), rfc3339(self.last_ms)
            _say(console, f"event time {first} to {last} ({span_h:,.2f} h)")
        _say(console, f"late events: {self.late:,}")
        _say(console, f"dead letters: {_counted(self.dead_letters)}")
        _say(console, f"decisions: {_counted(self.decisions)}")
        if self.rule_errors:
            _say(console, f"rules that failed: {_counted(self.rule_errors)}")
        if self.evicted:
            _say(console, f"keys evicted for lack of room (runner.max_users): {self.evicted:,}")
        if self.alerts_by_rule:
            console.print(self._rules_table())
            by_severity = self.alerts_by_severity
            listed = ", ".join(
                f"{by_severity[name]:,} {name}"
                for name in reversed(SEVERITIES)
                if by_severity[name]
            )
            _say(console, f"alerts by severity: {listed}")
            top = ", ".join(
                f"{clean(key)} ({count:,})"
                for (_, key), count in _ranked(self.alerts_by_key)[:_TOP_KEYS]
            )
            _say(console, f"most alerted: {top}")
        rate = self.events.total() / max(self.elapsed_s, 1e-9)
        _say(console, f"{rate:,.0f} events/s over {self.elapsed_s:,.2f} s")

    @property
    def final_line(self) -> str:
        """The one line that sums up the replay."""
        return (
            f"{self.events.total():,} events, {self.alerts_by_rule.total():,} alerts, "
            f"{self.incidents:,} incidents"
        )

    def _rules_table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD)
        for name in ("alerts", "findings"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("severity", no_wrap=True)
        table.add_column("rule")
        for rule_id, count in _ranked(self.alerts_by_rule):
            severity = self.severity_of_rule[rule_id]
            table.add_row(
                f"{count:,}",
                f"{self.findings[rule_id]:,}",
                Text(severity, SEVERITY_STYLES[severity]),
                Text(clean(rule_id)),
            )
        return table


def _ranked(counts: Counter[_Name]) -> list[tuple[_Name, int]]:
    """Names and counts, the largest first, equal ones by name: the same in every run."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _counted(counts: Counter[str]) -> str:
    """``12 (9 throttle, 3 warn)``, or ``0``."""
    if not counts:
        return "0"
    listed = ", ".join(f"{count:,} {name}" for name, count in _ranked(counts))
    return f"{counts.total():,} ({listed})"
