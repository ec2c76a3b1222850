"""What a rule is, and how it is written for Prometheus and for ``promtool test rules``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from dashboards.objectives import Audience

__all__ = ["GRAFANA", "RUNBOOKS", "Alert", "Case", "Group", "Record", "rules_yaml", "tests_yaml"]

GRAFANA: Final = "{{ $externalLabels.grafana }}"
RUNBOOKS: Final = "{{ $externalLabels.runbooks }}"
"""Where Grafana and the runbooks are is said once: by ``external_labels`` of prometheus.yml."""

_TEST_LABELS: Final = {"grafana": "http://grafana", "runbooks": "http://runbooks"}


@dataclass(frozen=True, slots=True)
class Record:
    """A recording rule: ``name`` is ``level:metric:operation``."""

    name: str
    expr: str


@dataclass(frozen=True, slots=True)
class Case:
    """What an alert does on some series (in promtool's notation, a sample every minute).

    At ``at`` one alert fires, with ``labels`` beside those of the rule, and ``says`` is its
    description; without: none may fire.
    """

    series: Mapping[str, str]
    at: str
    labels: Mapping[str, str] = field(default_factory=dict)
    says: str = ""


@dataclass(frozen=True, slots=True)
class Alert:
    """An alerting rule. ``dashboard`` is the uid of where to look; ``cases`` test it.

    Alerts of one ``topic`` have one cause, mostly: Alertmanager tells of them together (by the
    label ``group``, as of incidents: ``monitor.paging``).
    """

    name: str
    expr: str
    audience: Audience
    summary: str
    description: str
    dashboard: str
    topic: str
    cases: tuple[Case, ...]
    pending: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_labels(self) -> dict[str, str]:
        """The labels that the rule adds."""
        named = {"severity": self.audience, "service": "floodwatch"}
        return {**named, "group": f"monitor/{self.topic}", **self.labels}

    @property
    def annotations(self) -> dict[str, str]:
        """What the alert says and where it leads."""
        return {
            "summary": self.summary,
            "description": self.description,
            "runbook_url": f"{RUNBOOKS}/monitor/{self.name}.md",
            "dashboard_url": f"{GRAFANA}/d/{self.dashboard}",
        }


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that Prometheus evaluates together, in order."""

    name: str
    rules: tuple[Record | Alert, ...]

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Its alerting rules."""
        return tuple(rule for rule in self.rules if isinstance(rule, Alert))


class _Dumper(yaml.SafeDumper):
    """Writes what has several lines as several lines, and never aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)


def rules_yaml(groups: Iterable[Group], header: str) -> str:
    """A rule file of Prometheus."""
    document = {"groups": [{"name": g.name, "rules": [*map(_rule, g.rules)]} for g in groups]}
    return header + _dump(document)


def tests_yaml(
    groups: Iterable[Group],
    rule_files: Sequence[str],
    header: str,
    *,
    every: str,
    order: Sequence[str],
) -> str:
    """A file for ``promtool test rules``: each case of each alert, by itself.

    Rules are evaluated ``every`` so often (windows of days need not be looked at every minute),
    groups in ``order``.
    """
    tests = [
        _test(alert, case, number)
        for group in groups
        for alert in group.alerts
        for number, case in enumerate(alert.cases)
    ]
    document = {
        "rule_files": list(rule_files),
        "evaluation_interval": every,
        "group_eval_order": list(order),
        "tests": tests,
    }
    return header + _dump(document)


def _dump(document: Mapping[str, Any]) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


def _rule(rule: Record | Alert) -> dict[str, Any]:
    if isinstance(rule, Record):
        return {"record": rule.name, "expr": rule.expr}
    pending = {"for": rule.pending} if rule.pending else {}
    return {
        "alert": rule.name,
        "expr": rule.expr,
        **pending,
        "labels": rule.all_labels,
        "annotations": rule.annotations,
    }


def _test(alert: Alert, case: Case, number: int) -> dict[str, Any]:
    expected = {
        "exp_labels": {**case.labels, **alert.all_labels},
        "exp_annotations": {
            **alert.annotations,
            "description": case.says,
            "runbook_url": f"{_TEST_LABELS['runbooks']}/monitor/{alert.name}.md",
            "dashboard_url": f"{_TEST_LABELS['grafana']}/d/{alert.dashboard}",
        },
    }
    at = {"eval_time": case.at, "alertname": alert.name}
    return {
        "name": f"{alert.name}, case {number + 1}",
        "interval": "1m",
        "external_labels": _TEST_LABELS,
        "input_series": [{"series": s, "values": v} for s, v in case.series.items()],
        "alert_rule_test": [{**at, "exp_alerts": [expected] if case.says else []}],
    }
