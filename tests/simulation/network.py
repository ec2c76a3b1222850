"""What lies between a process and the broker: delays, lost answers, half-done flushes.

A request that is on its way when its process is killed may arrive or not; of what a producer had
under way to one partition, a prefix arrives. A paused process sends nothing more, but what it had
sent arrives, and answers wait for it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from aiokafka.errors import KafkaTimeoutError, RequestTimedOutError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Hashable

    from tests.simulation.faults import Faults
    from tests.simulation.loop import Process, SimulationLoop

__all__ = ["Connection", "Network", "NetworkSettings", "Reply", "Stream", "returning"]

T = TypeVar("T")
Reply: TypeAlias = "Callable[[Callable[[], T]], None]"
"""Gives the answer: a function that returns it, or raises the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """Delays are up to ``latency_s`` one way, a producer waits ``linger_s`` at most.

    Sends fail and requests or their answers are lost with ``failure_rate``; that is noticed
    after ``timeout_s``.

    ``outage_rate`` is the chance that a send finds its partition without a leader for up to
    ``outage_s``.
    """

    latency_s: float
    linger_s: float
    timeout_s: float
    failure_rate: float
    outage_rate: float
    outage_s: float


@dataclass(slots=True)
class Network:
    """What all connections share."""

    loop: SimulationLoop
    rng: random.Random
    faults: Faults
    settings: NetworkSettings

    def delay_s(self) -> float:
        """One way."""
        return self.rng.random() * self.settings.latency_s


class Connection:
    """The requests of one process."""

    def __init__(self, network: Network, process: Process) -> None:
        self.network = network
        self.process = process

    async def call(self, kind: str, serve: Callable[[], T]) -> T:
        """Have the broker ``serve`` a request; its errors are raised here.

        Also a RequestTimedOutError, which does not tell whether the request was served.
        """
        network = self.network
        lost = network.faults.active and network.rng.random() < network.settings.failure_rate
        if lost and network.rng.random() < 0.5:
            await network.faults.point(f"{kind}: asked")
            await asyncio.sleep(network.settings.timeout_s)
            raise RequestTimedOutError("simulated: the request was lost")
        result: T = await self.ask(kind, lambda reply: reply(_outcome(serve)))
        if lost:
            await asyncio.sleep(network.settings.timeout_s)
            raise RequestTimedOutError("simulated: the answer was lost")
        return result

    async def ask(self, kind: str, serve: Callable[[Reply[T]], None]) -> T:
        """As ``call``, of a broker that replies when it likes, and of a connection that holds.

        A request of a process that is killed meanwhile arrives or not.
        """
        network, loop = self.network, self.network.loop
        await network.faults.point(f"{kind}: asked")
        answer: asyncio.Future[T] = loop.create_future()

        def reply(outcome: Callable[[], T]) -> None:
            network.faults.strike(self.process, f"{kind}: served")
            loop.in_world(network.delay_s(), lambda: _settle(answer, outcome))

        def arrive() -> None:
            network.faults.strike(self.process, f"{kind}: arriving")
            if self.process.alive or network.rng.random() < 0.5:
                serve(reply)

        loop.in_world(network.delay_s(), arrive)
        result = await answer
        await network.faults.point(f"{kind}: answered")
        return result


@dataclass(slots=True)
class _Item(Generic[T]):
    append: Callable[[], T]
    acknowledged: asyncio.Future[T]


class Stream:
    """What a producer sends: in order for each partition, acknowledged one by one."""

    def __init__(self, network: Network, process: Process, kind: str) -> None:
        self._network = network
        self._process = process
        self._kind = kind
        self._arrives_s: dict[Hashable, float] = defaultdict(float)
        self._broken_off: set[Hashable] = set()
        self.abandoned = False

    async def send(self, partition: Hashable, append: Callable[[], T]) -> asyncio.Future[T]:
        """Have the broker ``append``; the future tells when that is acknowledged, or fails."""
        network, loop = self._network, self._network.loop
        await network.faults.point(f"{self._kind}: sending")
        item = _Item(append, loop.create_future())
        linger_s = network.rng.random() * network.settings.linger_s
        # The producer's own timer: a process that is paused or dead by then does not send it.
        loop.call_later(linger_s, self._to_the_wire, partition, item)
        return item.acknowledged

    def _to_the_wire(self, partition: Hashable, item: _Item[Any]) -> None:
        if self.abandoned or not self._process.alive:
            return
        network, loop = self._network, self._network.loop
        delay_s = network.delay_s()
        if network.faults.active and network.rng.random() < network.settings.outage_rate:
            delay_s += network.rng.random() * network.settings.outage_s
        at_s = max(loop.time() + delay_s, self._arrives_s[partition] + 1e-6)
        self._arrives_s[partition] = at_s
        loop.in_world(at_s - loop.time(), lambda: self._arrive(partition, item))

    def _arrive(self, partition: Hashable, item: _Item[Any]) -> None:
        network, loop = self._network, self._network.loop
        network.faults.strike(self._process, f"{self._kind}: arriving")
        if partition in self._broken_off:
            return
        if not self._process.alive and network.rng.random() < 0.5:
            self._broken_off.add(partition)
            return
        fails = network.faults.active and network.rng.random() < network.settings.failure_rate
        if fails and network.rng.random() < 0.5:
            outcome: Callable[[], Any] = _outcome(_time_out)
        else:
            outcome = _outcome(item.append)
            network.faults.strike(self._process, f"{self._kind}: appended")
            if fails:
                outcome = _outcome(_time_out)
        loop.in_world(network.delay_s(), lambda: _settle(item.acknowledged, outcome))


def _time_out() -> None:
    raise KafkaTimeoutError("simulated")


def returning(value: T) -> Callable[[], T]:
    """An outcome that is ``value``."""
    return lambda: value


def _outcome(serve: Callable[[], T]) -> Callable[[], T]:
    """Do it now, tell later."""
    try:
        result = serve()
    except Exception as error:  # noqa: BLE001 - the caller gets it
        failure = error

        def raise_it() -> T:
            raise failure

        return raise_it
    return returning(result)


def _settle(future: asyncio.Future[T], outcome: Callable[[], T]) -> None:
    if future.done():
        return
    try:
        future.set_result(outcome())
    except Exception as error:  # noqa: BLE001 - the one that waits gets it
        future.set_exception(error)
