"""Open incidents: what is kept of them, and how they become blocks of state and come back.

A block holds an array of n int64 for each number of its n incidents, and ``text``: JSON with their
ids, their keys, and the rules that they are of. It can be read without the pack.

When a pack has changed, incidents of a rule that was removed or is another version now stay open,
get no more findings and close when their time comes. They are not dropped: whoever works on them
must see them end. And the new version does not go on with them: it detects something else, or acts
otherwise (a rule that goes from shadow to live must not stay silent because its shadow has an
incident), and ids and alerts name one version. So the same abuse is alerted on once more,
under the new version.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from detectors.errors import StateError
from detectors.state.blocks import StateBlock, checked_array, json_array, json_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from detectors.pack import Mode, Severity
    from detectors.rules import Rule

__all__ = [
    "Identity",
    "Incident",
    "IncidentState",
    "IncidentUpdate",
    "RuleLabel",
    "incident_block",
    "read_incidents",
]

IncidentState: TypeAlias = Literal["opened", "updated", "closed"]
Identity: TypeAlias = tuple[str, str, str]
"""Rule id, rule version, key."""

_NUMBERS: Final = (
    "place",
    "number",
    "opened_ms",
    "last_finding_ms",
    "last_alert_ms",
    "due_ms",
    "alerts",
    "findings",
    "suppressed",
)
_INT64: Final = np.dtype(np.int64)
_MIN_CLOSE_AFTER_MS: Final = 1_800_000


@dataclass(frozen=True, slots=True)
class IncidentUpdate:
    """An incident as it stands after a change; the newest one is the incident."""

    incident_id: str
    state: IncidentState
    rule_id: str
    rule_version: str
    title: str
    severity: Severity
    mode: Mode
    key_space: str
    key: str
    opened_ms: int
    last_finding_ms: int
    time_ms: int
    alerts: int
    findings: int


@dataclass(frozen=True, slots=True)
class RuleLabel:
    """What an incident needs of its rule: it can outlive the rule."""

    rule_id: str
    rule_version: str
    title: str
    severity: Severity
    mode: Mode
    key_space: str
    close_after_ms: int

    @staticmethod
    def of(rule: Rule) -> RuleLabel:
        """The label of a rule. Its incidents close after half an hour or two cooldowns."""
        spec = rule.spec
        close_after_ms = max(2 * spec.cooldown_ms, _MIN_CLOSE_AFTER_MS)
        return RuleLabel(
            spec.id, rule.version, spec.title, spec.severity, spec.mode, spec.key, close_after_ms
        )


@dataclass(slots=True)
class Incident:
    """An open incident: the alerts of one rule and one key.

    ``due_ms`` is when it is looked at to see whether it closes, ``number`` counts those opened
    in the partition, ``place`` is where in the blocks of state it is.
    """

    incident_id: str
    rule: RuleLabel
    key: str
    opened_ms: int
    last_finding_ms: int
    last_alert_ms: int
    due_ms: int
    number: int
    place: int = -1
    alerts: int = 0
    findings: int = 0
    suppressed: int = 0

    @property
    def identity(self) -> Identity:
        """What no two open incidents share."""
        return (self.rule.rule_id, self.rule.rule_version, self.key)

    def update(self, state: IncidentState, time_ms: int) -> IncidentUpdate:
        """The incident as it stands now."""
        rule = self.rule
        return IncidentUpdate(
            incident_id=self.incident_id,
            state=state,
            rule_id=rule.rule_id,
            rule_version=rule.rule_version,
            title=rule.title,
            severity=rule.severity,
            mode=rule.mode,
            key_space=rule.key_space,
            key=self.key,
            opened_ms=self.opened_ms,
            last_finding_ms=self.last_finding_ms,
            time_ms=time_ms,
            alerts=self.alerts,
            findings=self.findings,
        )


def incident_block(name: str, incidents: Sequence[Incident]) -> StateBlock:
    """A block of incidents. Which they are is up to the caller; so is their order."""
    rules: dict[str, tuple[int, RuleLabel]] = {}
    rule_of = [
        rules.setdefault(incident.rule.rule_version, (len(rules), incident.rule))[0]
        for incident in incidents
    ]
    arrays = {
        number: np.fromiter(
            (getattr(incident, number) for incident in incidents), _INT64, len(incidents)
        )
        for number in _NUMBERS
    }
    arrays["rule"] = np.array(rule_of, dtype=_INT64)
    text = {
        "ids": [incident.incident_id for incident in incidents],
        "keys": [incident.key for incident in incidents],
        "rules": [asdict(label) for _, label in rules.values()],
    }
    return StateBlock(name, {**arrays, "text": json_array(text)})


def read_incidents(block: StateBlock) -> Iterator[Incident]:
    """The incidents of a block.

    Raises:
        StateError: the block is damaged.
    """
    text = json_value(block, "text")
    try:
        ids, keys = text["ids"], text["keys"]
        rules = [RuleLabel(**label) for label in text["rules"]]
    except (KeyError, TypeError) as error:
        raise StateError(f"array 'text' lacks something: {error!r}", where=block.name) from error
    if len(keys) != len(ids):
        raise StateError(f"array 'text' has {len(keys)} keys for {len(ids)} ids", where=block.name)
    numbers = {
        name: checked_array(block, name, _INT64, (len(ids),)).tolist()
        for name in (*_NUMBERS, "rule")
    }
    if not all(0 <= index < len(rules) for index in numbers["rule"]):
        raise StateError("array 'rule' names a rule that is not in 'text'", where=block.name)
    for at, incident_id in enumerate(ids):
        yield Incident(
            incident_id,
            rules[numbers["rule"][at]],
            keys[at],
            **{name: numbers[name][at] for name in _NUMBERS},
        )
