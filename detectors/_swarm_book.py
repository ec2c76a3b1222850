"""Live swarms: who took part in the crowd of a key, kept until it has been silent for a while."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LiveSwarm"]

_MINUTE_MS: Final = 60_000
_MAX_MEMBERS: Final = 500
_MAX_EVENTS: Final = 20
_MAX_MINUTES: Final = 60


@dataclass(slots=True)
class LiveSwarm:
    """The crowd of one key.

    ``members`` are actors with the times (ms) of their first and newest action that was seen;
    ``crowd`` and ``expected`` are those of the best ``score``. ``minutes`` counts the actions of
    each minute. ``changed`` is whether there is something in it that its campaign was not told.
    """

    key: int
    space: int
    first_ms: int
    newest_ms: int
    score: float = 0.0
    crowd: float = 0.0
    expected: float = 0.0
    actions: int = 0
    left_out: int = 0
    members: dict[int, list[int]] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    minutes: dict[int, int] = field(default_factory=dict)
    changed: bool = True

    def join(self, actor: int, time_ms: int) -> None:
        """An actor acted at a time."""
        seen = self.members.get(actor)
        if seen is not None:
            seen[0], seen[1] = min(seen[0], time_ms), max(seen[1], time_ms)
        elif len(self.members) < _MAX_MEMBERS:
            self.members[actor] = [time_ms, time_ms]
            self.changed = True
        else:
            self.left_out += 1
        self.first_ms = min(self.first_ms, time_ms)

    def act(self, time_ms: int, event: str, measured: tuple[float, float, float]) -> None:
        """An action in the swarm; ``measured`` are its score, crowd and expected crowd."""
        self.newest_ms = max(self.newest_ms, time_ms)
        self.actions += 1
        minute = time_ms // _MINUTE_MS
        self.minutes[minute] = self.minutes.get(minute, 0) + 1
        if len(self.minutes) > _MAX_MINUTES:
            del self.minutes[min(self.minutes)]
        self.events.append(event)
        del self.events[:-_MAX_EVENTS]
        if measured[0] > self.score:
            self.score, self.crowd, self.expected = measured
            self.changed = True

    def state(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {
            "key": self.key,
            "space": self.space,
            "first_ms": self.first_ms,
            "newest_ms": self.newest_ms,
            "score": self.score,
            "crowd": self.crowd,
            "expected": self.expected,
            "actions": self.actions,
            "left_out": self.left_out,
            "members": [[actor, *seen] for actor, seen in self.members.items()],
            "events": self.events,
            "minutes": list(self.minutes.items()),
            "changed": self.changed,
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> LiveSwarm:
        """A swarm from its ``state``."""
        swarm = cls(**{**state, "members": {}, "minutes": {}, "events": list(state["events"])})
        swarm.members = {actor: [first, newest] for actor, first, newest in state["members"]}
        swarm.minutes = dict(state["minutes"])
        return swarm
