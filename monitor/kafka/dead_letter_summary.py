"""What lies in the dead-letter topics, in groups: bounded, however many letters there are."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from monitor.kafka.dead_letters import Letter, Position, Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitor.kafka.redrive_ledger import Ledger

__all__ = ["GROUPS_MAX", "Group", "GroupKey", "Summary"]

GROUPS_MAX: Final = 1_000
_SAMPLES: Final = 3


class GroupKey(NamedTuple):
    """What the letters of a group have in common; ``topic`` is the dead letters'."""

    topic: str
    reason: str
    path: str


@dataclass(slots=True)
class Group:
    """How many letters, how many of them were driven again, when written (ms, oldest and newest).

    ``samples`` are the newest three, by the place of the record that was refused.
    """

    letters: int = 0
    redriven: int = 0
    first_ms: int = 0
    last_ms: int = 0
    message: str = ""
    samples: deque[Position] = field(default_factory=lambda: deque(maxlen=_SAMPLES))

    def add(self, letter: Letter, *, redriven: bool) -> None:
        """Count a letter."""
        written_ms = letter.written_ms
        self.first_ms = min(self.first_ms, written_ms) if self.letters else written_ms
        self.last_ms = max(self.last_ms, written_ms)
        self.letters += 1
        self.redriven += redriven
        self.message = letter.record.message
        self.samples.append(letter.source)


class Summary:
    """Groups letters by topic, reason and JSON path.

    There are at most 1,000 groups: letters of further ones are counted in ``left_out``. What is no
    dead letter is counted in ``unreadable``, the newest kept as ``unreadable_sample``.
    """

    def __init__(self) -> None:
        self._groups: dict[GroupKey, Group] = {}
        self.left_out = 0
        self.unreadable = 0
        self.unreadable_sample: Unreadable | None = None

    def add(self, entry: Letter | Unreadable, ledger: Ledger) -> None:
        """Count an entry of a topic whose ledger is ``ledger``."""
        if isinstance(entry, Unreadable):
            self.unreadable += 1
            self.unreadable_sample = entry
            return
        key = GroupKey(entry.at.topic, entry.record.reason, entry.record.path)
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) == GROUPS_MAX:
                self.left_out += 1
                return
            group = self._groups[key] = Group()
        group.add(entry, redriven=ledger.is_redriven(entry.id))

    @property
    def groups(self) -> Sequence[tuple[GroupKey, Group]]:
        """The largest first."""
        return sorted(self._groups.items(), key=lambda item: (-item[1].letters, item[0]))

    @property
    def letters(self) -> int:
        """All letters, those that are in no group too."""
        return sum(group.letters for group in self._groups.values()) + self.left_out
