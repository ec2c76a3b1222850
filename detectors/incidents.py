"""From findings to alerts, incidents and decisions.

A *finding* is a rule that held at an event. The first finding for a rule and key opens an incident
and is an alert; findings within the rule's cooldown are counted, the next one after it is another
alert of the same incident; an incident without findings for ``close_after_ms`` closes. All of it
in event time, so that the same log gives the same ids and the same content every time.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from detectors.errors import StateError
from detectors.state.blocks import entry
from detectors.state.incidents import (
    Identity,
    Incident,
    IncidentState,
    IncidentUpdate,
    RuleLabel,
    incident_block,
    read_incidents,
)
from detectors.state.places import Places

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from detectors.anomaly import Explanation
    from detectors.group_alerts import Group
    from detectors.pack import Action, ActionKind, Mode, Severity
    from detectors.rules import Condition, Rule
    from detectors.state.blocks import StateBlock

__all__ = [
    "Alert",
    "Decision",
    "Incident",
    "IncidentState",
    "IncidentTracker",
    "IncidentUpdate",
    "Output",
    "stable_id",
]

_BLOCK_INCIDENTS: Final = 1_000
_TORN: Final = "the state is not that of any moment: use another checkpoint"


def stable_id(prefix: str, *parts: object) -> str:
    """A deterministic id: ``prefix_`` and 20 hexadecimal digits over the parts."""
    digest = hashlib.blake2b(digest_size=10)
    for part in parts:
        encoded = str(part).encode()
        digest.update(len(encoded).to_bytes(4, "little"))
        digest.update(encoded)
    return f"{prefix}_{digest.hexdigest()}"


@dataclass(frozen=True, slots=True)
class Alert:
    """A finding that passed cooldown. ``context`` holds columns of the event that fired it.

    ``anomaly`` takes the score apart, if the rule looks at one; ``group`` says who is meant, if
    it is about several users.
    """

    alert_id: str
    incident_id: str
    rule_id: str
    rule_version: str
    pack_version: str
    title: str
    severity: Severity
    mode: Mode
    key_space: str
    key: str
    time_ms: int
    event_id: str
    sequence: int
    suppressed: int
    summary: str
    evidence: tuple[Condition, ...]
    context: Mapping[str, Any]
    runbook: str
    tags: tuple[str, ...] = ()
    action: Action | None = None
    anomaly: Explanation | None = None
    group: Group | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What should happen to a user, until when, and why (``rule:ID`` or ``limit:NAME``)."""

    decision_id: str
    user_id: str
    kind: ActionKind
    scope: str
    reason: str
    time_ms: int
    expires_ms: int
    alert_id: str | None = None


Output: TypeAlias = Alert | IncidentUpdate | Decision


@dataclass(slots=True)
class IncidentTracker:
    """Open incidents of one partition, at most ``capacity``; beyond that the longest idle closes.

    Of one rule at most ``rule_capacity`` are open: beyond that the longest idle of that rule close,
    so that a rule which fires for everyone cannot push out the incidents of the others.

    Feed findings in log order; call ``close_due`` with the watermark before each finding and
    after each batch, so that outputs come in the same order however the log is cut.
    """

    capacity: int = 100_000
    rule_capacity: int = 100_000
    opened: int = 0
    evicted: int = 0
    _open: dict[Identity, Incident] = field(default_factory=dict)
    _places: Places[Incident] = field(default_factory=lambda: Places(_BLOCK_INCIDENTS))
    # A heap of when incidents are due; it may hold some that are closed, or due at another time.
    _closing: list[tuple[int, str, Identity]] = field(default_factory=list)
    _open_of_rule: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self._open)

    def suppress(self, rule: Rule, key: str, time_ms: int) -> bool:
        """Count a finding if its incident is in cooldown; False if it is an alert."""
        incident = self._open.get((rule.spec.id, rule.version, key))
        if incident is None or time_ms - incident.last_alert_ms >= rule.spec.cooldown_ms:
            return False
        self._hold_back(incident, time_ms)
        return True

    def shed(self, rule: Rule, key: str, time_ms: int) -> None:
        """Count a finding that may not become an alert, if its incident is open."""
        incident = self._open.get((rule.spec.id, rule.version, key))
        if incident is not None:
            self._hold_back(incident, time_ms)

    def alert(self, rule: Rule, key: str, time_ms: int, event_id: str) -> Incident:
        """Count a finding that is an alert; returns its incident, opened if need be.

        ``suppressed`` of the incident holds the findings that cooldown held back since the alert
        before; the caller resets it with the alert it makes.
        """
        spec = rule.spec
        incident = self._open.get((spec.id, rule.version, key))
        if incident is None:
            label = RuleLabel.of(rule)
            incident = Incident(
                stable_id("inc", spec.id, rule.version, spec.key, key, time_ms, event_id),
                label,
                key,
                opened_ms=time_ms,
                last_finding_ms=time_ms,
                last_alert_ms=time_ms,
                due_ms=time_ms + label.close_after_ms,
                number=self.opened,
            )
            self.opened += 1
            incident.place = self._places.take(incident)
            self._add(incident)
        incident.findings += 1
        incident.alerts += 1
        incident.last_finding_ms = max(incident.last_finding_ms, time_ms)
        incident.last_alert_ms = max(incident.last_alert_ms, time_ms)
        self._places.touch(incident.place)
        return incident

    def close_due(self, watermark_ms: int) -> Iterator[IncidentUpdate]:
        """Close incidents whose time has come, in the order of their closing times."""
        while self._closing and self._closing[0][0] <= watermark_ms:
            incident = self._is_due(heapq.heappop(self._closing))
            if incident is None:
                continue
            due_ms = incident.due_ms
            closes_ms = incident.last_finding_ms + incident.rule.close_after_ms
            if closes_ms > due_ms:
                incident.due_ms = closes_ms
                self._places.touch(incident.place)
                self._schedule(incident)
                continue
            self._remove(incident)
            yield incident.update("closed", due_ms)

    def evict_over_capacity(self) -> Iterator[IncidentUpdate]:
        """Close the incident that would close first while there are more than ``capacity``."""
        while len(self._open) > self.capacity:
            incident = self._is_due(heapq.heappop(self._closing))
            if incident is None:
                continue
            self._remove(incident)
            self.evicted += 1
            yield incident.update("closed", min(incident.due_ms, incident.last_finding_ms))

    def evict_over_rule_capacity(self, rule: Rule) -> Iterator[IncidentUpdate]:
        """Close the longest idle incidents of a rule that has more than ``rule_capacity``.

        A sixteenth of them at once, so that a rule which goes on pays little for the search.
        """
        rule_id = rule.spec.id
        excess = self._open_of_rule[rule_id] - self.rule_capacity
        if excess <= 0:
            return
        idle = heapq.nsmallest(
            max(excess, self.rule_capacity // 16),
            (i for i in self._open.values() if i.rule.rule_id == rule_id),
            key=lambda incident: (incident.last_finding_ms, incident.incident_id),
        )
        for incident in idle:
            self._remove(incident)
            self.evicted += 1
            yield incident.update("closed", incident.last_finding_ms)
        if len(self._closing) > 2 * len(self._open):
            self._closing = [entry for entry in self._closing if self._is_due(entry)]
            heapq.heapify(self._closing)

    @property
    def counters(self) -> dict[str, int | list[str]]:
        """The state beside the blocks, as JSON can hold it."""
        return {
            "blocks": self.names(),
            "opened": self.opened,
            "evicted": self.evicted,
            "open": len(self._open),
            "places": self._places.count,
        }

    def names(self) -> list[str]:
        """The blocks that there are now."""
        return [f"incidents/{number}" for number in self._places.used_blocks()]

    def copy(self, *, full: bool) -> list[StateBlock]:
        """All blocks, or those that changed since the last such call."""
        used = self._places.used_blocks()
        chosen = used if full else sorted(self._places.take_dirty() & set(used))
        return [incident_block(f"incidents/{n}", self._places.block(n)) for n in chosen]

    def mark_all_dirty(self) -> None:
        """Have the next ``copy`` hold every block."""
        self._places.touch_all()

    def restore(
        self, blocks: Iterable[StateBlock], counters: Mapping[str, Any], rules: Iterable[Rule]
    ) -> list[str]:
        """Take over the state of another tracker; only for one that has done nothing yet.

        Returns what to tell people: see ``detectors.state.incidents`` for incidents of rules that
        are no longer among ``rules``.

        Raises:
            StateError: a block is damaged or missing.
        """
        labels = {rule.version: RuleLabel.of(rule) for rule in rules}
        opened, evicted, count, places, names = (
            entry(counters, name, "incidents")
            for name in ("opened", "evicted", "open", "places", "blocks")
        )
        found = {block.name: list(read_incidents(block)) for block in blocks}
        if found.keys() != set(names):
            raise StateError(
                f"blocks {sorted(found.keys() ^ set(names))} are missing or not of this state",
                where="incidents",
                hint=_TORN,
            )
        incidents = sorted(chain(*found.values()), key=lambda incident: incident.number)
        if len(incidents) != count:
            raise StateError(
                f"{count:,} open incidents were saved, {len(incidents):,} are there",
                where="incidents",
                hint=_TORN,
            )
        try:
            self._places.restore(places, ((i.place, i) for i in incidents))
        except ValueError as error:
            raise StateError(str(error), where="incidents", hint=_TORN) from error
        self.opened, self.evicted = opened, evicted
        for incident in incidents:
            label = labels.get(incident.rule.rule_version, incident.rule)
            if label != incident.rule:  # a title or a severity
                self._places.touch(incident.place)
            incident.rule = label
            self._add(incident)
        left = Counter(i.rule.rule_id for i in incidents if i.rule.rule_version not in labels)
        kept = {label.rule_id for label in labels.values()}
        return [
            f"rule {rule_id}: {'is another version now' if rule_id in kept else 'is gone'}: "
            f"{count:,} open incidents get no more findings and close when their time comes"
            for rule_id, count in sorted(left.items())
        ]

    def _hold_back(self, incident: Incident, time_ms: int) -> None:
        incident.findings += 1
        incident.suppressed += 1
        if time_ms > incident.last_finding_ms:
            incident.last_finding_ms = time_ms
        self._places.touch(incident.place)

    def _add(self, incident: Incident) -> None:
        self._open[incident.identity] = incident
        self._open_of_rule[incident.rule.rule_id] += 1
        self._schedule(incident)

    def _remove(self, incident: Incident) -> None:
        del self._open[incident.identity]
        self._open_of_rule[incident.rule.rule_id] -= 1
        self._places.free(incident.place)

    def _schedule(self, incident: Incident) -> None:
        heapq.heappush(self._closing, (incident.due_ms, incident.incident_id, incident.identity))

    def _is_due(self, entry: tuple[int, str, Identity]) -> Incident | None:
        """The open incident that an entry of the heap is about, if it still is."""
        due_ms, incident_id, identity = entry
        incident = self._open.get(identity)
        if incident is None or (incident.due_ms, incident.incident_id) != (due_ms, incident_id):
            return None
        return incident
