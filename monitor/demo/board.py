"""What the demo knows about its run: figures, newest outputs, the event rate. No drawing here."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from detectors.incidents import Alert, Decision, IncidentUpdate, Output
from detectors.pack import Severity

__all__ = ["Board", "RateMeter"]

_NEWEST: Final = 64
_MAX_OPEN: Final = 10_000


@dataclass(slots=True)
class RateMeter:
    """Events per second over the last ``seconds`` whole seconds of the clock given to it."""

    seconds: int = 60
    _counts: deque[tuple[int, int]] = field(default_factory=deque)
    _started_s: float | None = None

    def add(self, count: int, now_s: float) -> None:
        """``count`` events were processed at ``now_s``."""
        if self._started_s is None:
            self._started_s = now_s
        second = int(now_s)
        if self._counts and self._counts[-1][0] == second:
            count += self._counts.pop()[1]
        self._counts.append((second, count))
        while self._counts[0][0] <= second - self.seconds:
            self._counts.popleft()

    def per_second(self, now_s: float, over_s: int = 5) -> float:
        """The mean rate of the last ``over_s`` complete seconds (of fewer, soon after start)."""
        if self._started_s is None:
            return 0.0
        second = int(now_s)
        elapsed_s = now_s - self._started_s
        if second - int(self._started_s) < 2:
            return sum(count for _, count in self._counts) / max(elapsed_s, 0.25)
        first = max(second - over_s, int(self._started_s) + 1)
        complete = [count for at, count in self._counts if first <= at < second]
        return sum(complete) / (second - first)

    def history(self, now_s: float, length: int) -> list[int]:
        """Events in each of the last complete seconds, oldest first; at most ``length``."""
        second = int(now_s)
        counts = dict(self._counts)
        if self._started_s is None:
            return []
        first = max(second - min(length, self.seconds), int(self._started_s) + 1)
        return [counts.get(at, 0) for at in range(first, second)]


@dataclass(slots=True)
class Board:
    """The state of the demo that is shown.

    ``lag_s`` is how long after its due time the newest event was processed; ``event_time_ms``
    is that event's time; ``slipped_s`` is how much the schedule was held back in all. ``begun``
    has every planted attack (id to kind) that has sent an event, ``seen`` those with an alert at
    one of their events; ``honest_alerts`` counts alerts at events of no attack.
    """

    pack: str
    speed: float
    metrics_address: str
    results: str
    started_s: float = 0.0
    rate: RateMeter = field(default_factory=RateMeter)
    events: int = 0
    dead_letters: int = 0
    late: int = 0
    alerts: int = 0
    incidents: int = 0
    decisions: int = 0
    event_time_ms: int = 0
    lag_s: float = 0.0
    slipped_s: float = 0.0
    alerts_by_rule: Counter[str] = field(default_factory=Counter)
    severity_by_rule: dict[str, Severity] = field(default_factory=dict)
    title_by_rule: dict[str, str] = field(default_factory=dict)
    newest_alerts: deque[Alert] = field(default_factory=lambda: deque(maxlen=_NEWEST))
    newest_decisions: deque[Decision] = field(default_factory=lambda: deque(maxlen=_NEWEST))
    open_incidents: dict[str, IncidentUpdate] = field(default_factory=dict)
    begun: dict[str, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    honest_alerts: int = 0

    def take(self, outputs: Iterable[Output], attack_of_event: Mapping[str, str]) -> None:
        """Count outputs and remember the newest. The truth maps event ids to attack ids."""
        for output in outputs:
            if isinstance(output, Alert):
                attack_id = attack_of_event.get(output.event_id)
                if attack_id is None:
                    self.honest_alerts += 1
                else:
                    self.seen.add(attack_id)
                self.alerts += 1
                self.alerts_by_rule[output.rule_id] += 1
                self.severity_by_rule[output.rule_id] = output.severity
                self.title_by_rule[output.rule_id] = output.title
                self.newest_alerts.appendleft(output)
            elif isinstance(output, IncidentUpdate):
                self._incident(output)
            else:
                self.decisions += 1
                self.newest_decisions.appendleft(output)

    @property
    def unseen_kinds(self) -> list[str]:
        """Kinds of planted attacks that no alert has pointed at yet, sorted."""
        seen = {self.begun[attack_id] for attack_id in self.seen}
        return sorted(set(self.begun.values()) - seen)

    @property
    def final_line(self) -> str:
        """The one line that sums up the run."""
        return f"{self.events:,} events, {self.alerts:,} alerts, {self.incidents:,} incidents"

    def _incident(self, update: IncidentUpdate) -> None:
        self.incidents += update.state == "opened"
        self.open_incidents.pop(update.incident_id, None)
        if update.state != "closed":
            self.open_incidents[update.incident_id] = update
        while len(self.open_incidents) > _MAX_OPEN:
            del self.open_incidents[next(iter(self.open_incidents))]
