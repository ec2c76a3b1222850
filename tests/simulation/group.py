"""The coordinator of the consumer group: members, generations, committed offsets.

Eager rebalances as Kafka does them: a generation begins when all members have joined or were
given up. Commits count only from a member of the present generation. A static member that comes
back takes the place of its former self, in the same generation.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiokafka.errors import (
    IllegalGenerationError,
    OffsetMetadataTooLargeError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from monitor.checkpoint.contract import CommittedOffset
from tests.simulation.network import returning

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Mapping

    from tests.simulation.loop import SimulationLoop
    from tests.simulation.network import Reply

__all__ = ["Commit", "Group", "Membership"]

_METADATA_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True)
class Membership:
    """What a member is told when a generation begins: its partition numbers and standbys."""

    member: str
    generation: int
    partitions: frozenset[int]
    standbys: frozenset[int]


@dataclass(frozen=True, slots=True)
class Commit:
    """An accepted commit of one partition number."""

    process: str
    generation: int
    partition: int
    offsets: Mapping[str, CommittedOffset]


@dataclass(slots=True)
class _Member:
    name: str
    process: str
    instance: str | None
    seen_s: float
    joining: Reply[Membership] | None = None
    partitions: frozenset[int] = frozenset()
    standbys: frozenset[int] = frozenset()


@dataclass
class Group:
    """One consumer group over ``partitions`` partition numbers."""

    loop: SimulationLoop
    rng: random.Random
    partitions: int
    session_timeout_s: float
    rebalance_timeout_s: float
    generation: int = 0
    rebalances: int = 0
    fenced_commits: int = 0
    on_commit: Callable[[Commit], None] = lambda _commit: None
    _members: dict[str, _Member] = field(default_factory=dict)
    _offsets: dict[int, dict[str, CommittedOffset]] = field(default_factory=dict)
    _preparing: bool = False
    _names: int = 0

    # -- membership

    def join(
        self, member: str | None, process: str, instance: str | None, reply: Reply[Membership]
    ) -> None:
        """Join or join again; the reply comes when the generation begins."""
        known = self._members.get(member) if member else None
        if known is None and instance is not None:
            known = self._take_place(instance, process)
            if known is not None and not self._preparing and known.joining is None:
                reply(returning(self._membership(known)))
                return
        if known is None:
            self._names += 1
            name = f"{process}/{self._names}"
            known = self._members[name] = _Member(name, process, instance, self.loop.time())
            self._watch(known)
        known.joining = reply
        known.seen_s = self.loop.time()
        self.rebalance()

    def _take_place(self, instance: str, process: str) -> _Member | None:
        former = next((m for m in self._members.values() if m.instance == instance), None)
        if former is None:
            return None
        del self._members[former.name]
        if former.joining is not None:
            former.joining(_raising(UnknownMemberIdError(instance)))
        self._names += 1
        name = f"{process}/{self._names}"
        present = _Member(name, process, instance, self.loop.time())
        present.partitions, present.standbys = former.partitions, former.standbys
        self._members[name] = present
        self._watch(present)
        return present

    def heartbeat(self, member: str, generation: int) -> None:
        """Note that a member is alive. Raises what Kafka answers."""
        known = self._check(member, generation)
        known.seen_s = self.loop.time()
        if self._preparing:
            raise RebalanceInProgressError

    def leave(self, member: str) -> None:
        """A member that stops and is not static."""
        if member in self._members:
            self._remove(self._members[member])

    def rebalance(self) -> None:
        """Have all members join anew (also what new metadata or a new member brings about)."""
        if not self._preparing and self._members:
            self._preparing = True
            self.rebalances += 1
            generation = self.generation
            self.loop.in_world(self.rebalance_timeout_s, lambda: self._give_up(generation))
        self._begin_if_all_joined()

    def _give_up(self, generation: int) -> None:
        """Go on without the members that have not joined in time."""
        if self._preparing and self.generation == generation:
            for member in list(self._members.values()):
                if member.joining is None:
                    del self._members[member.name]
            self._begin_if_all_joined()

    def _begin_if_all_joined(self) -> None:
        members = list(self._members.values())
        if not self._preparing or not members or any(m.joining is None for m in members):
            return
        self._preparing = False
        self.generation += 1
        self._assign(members)
        for member in members:
            assert member.joining is not None
            reply, member.joining = member.joining, None
            member.seen_s = self.loop.time()
            reply(returning(self._membership(member)))

    def _assign(self, members: list[_Member]) -> None:
        """Somehow: mostly as before, with a standby elsewhere where there is an elsewhere."""
        sticky = self.rng.random() < 0.5
        actives: dict[str, set[int]] = {m.name: set() for m in members}
        standbys: dict[str, set[int]] = {m.name: set() for m in members}
        for partition in range(self.partitions):
            owners = [m for m in members if partition in m.partitions]
            owner = owners[0] if owners and sticky else self.rng.choice(members)
            actives[owner.name].add(partition)
            others = [m for m in members if m is not owner]
            if others:
                standbys[self.rng.choice(others).name].add(partition)
        for member in members:
            member.partitions = frozenset(actives[member.name])
            member.standbys = frozenset(standbys[member.name])

    def _membership(self, member: _Member) -> Membership:
        return Membership(member.name, self.generation, member.partitions, member.standbys)

    def _watch(self, member: _Member) -> None:
        """Expire the session of a member that is silent; one that waits to join is not."""

        def look() -> None:
            if self._members.get(member.name) is not member:
                return
            silent_s = self.loop.time() - member.seen_s
            if member.joining is None and silent_s >= self.session_timeout_s:
                self._remove(member)
            else:
                self.loop.in_world(self.session_timeout_s / 4, look)

        self.loop.in_world(self.session_timeout_s / 4, look)

    def _remove(self, member: _Member) -> None:
        del self._members[member.name]
        self.rebalance()

    def _check(self, member: str, generation: int) -> _Member:
        # aiokafka does not say which instance it is, so a former self is just unknown.
        known = self._members.get(member)
        if known is None:
            raise UnknownMemberIdError(member)
        if generation != self.generation:
            raise IllegalGenerationError(generation)
        return known

    # -- offsets

    def commit(
        self,
        member: str,
        generation: int,
        partition: int,
        offsets: Mapping[str, CommittedOffset],
    ) -> None:
        """Take all of them or none. Raises what Kafka answers."""
        if any(len(entry.metadata.encode()) > _METADATA_BYTES for entry in offsets.values()):
            raise OffsetMetadataTooLargeError
        try:
            known = self._check(member, generation)
        except (UnknownMemberIdError, IllegalGenerationError):
            self.fenced_commits += 1
            raise
        known.seen_s = self.loop.time()  # as Kafka counts it
        self._offsets.setdefault(partition, {}).update(offsets)
        self.on_commit(Commit(known.process, generation, partition, dict(offsets)))

    def committed(self, partition: int) -> Mapping[str, CommittedOffset]:
        """By topic, what is committed."""
        return dict(self._offsets.get(partition, {}))


def _raising(error: Exception) -> Callable[[], Membership]:
    def outcome() -> Membership:
        raise error

    return outcome
