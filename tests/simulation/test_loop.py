"""The simulated event loop: virtual time, processes that die and pause, seeds that replay."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.simulation.loop import ProcessKilledError, SimulationLoop, SimulationStuckError

Told = list[tuple[str, float]]


def run(main: Callable[[SimulationLoop], Coroutine[Any, Any, None]], seed: int = 1) -> float:
    """Run ``main`` in a new loop; returns the virtual seconds that it took."""
    loop = SimulationLoop(random.Random(seed))
    try:
        loop.run_until_complete(main(loop))
        return loop.time()
    finally:
        loop.end()


def test_an_hour_passes_at_once_and_timeouts_are_kept() -> None:
    async def main(_loop: SimulationLoop) -> None:
        await asyncio.sleep(3_600)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()

    assert run(main) == 3_605


def test_a_killed_process_has_no_effect_from_then_on_not_even_by_its_clean_up() -> None:
    told: Told = []

    async def worker(loop: SimulationLoop) -> None:
        process = loop.current_process()
        try:
            for _ in range(10):
                process.require_alive()
                told.append(("works", loop.time()))
                await asyncio.sleep(1)
        finally:
            with pytest.raises(ProcessKilledError):
                process.require_alive()
            await asyncio.sleep(1)  # as code does that waits for acknowledgements
            told.append(("cleaned up", loop.time()))

    async def main(loop: SimulationLoop) -> None:
        process = loop.start_process("worker", lambda: worker(loop))
        await asyncio.sleep(2.5)
        loop.kill(process)
        await asyncio.sleep(60)
        assert not process.tasks

    run(main)
    assert told == [("works", 0.0), ("works", 1.0), ("works", 2.0)]


def test_a_paused_process_goes_on_where_it_stood_and_its_timers_are_late() -> None:
    told: Told = []

    async def worker(loop: SimulationLoop) -> None:
        while True:
            told.append(("works", loop.time()))
            await asyncio.sleep(1)

    async def main(loop: SimulationLoop) -> None:
        process = loop.start_process("worker", lambda: worker(loop))
        await asyncio.sleep(1.5)
        process.paused = True
        await asyncio.sleep(10)
        process.paused = False
        await asyncio.sleep(1.2)

    run(main)
    assert told == [("works", at) for at in (0.0, 1.0, 11.5, 12.5)]


def test_the_seed_orders_processes_but_never_what_happens_within_one() -> None:
    def order(seed: int) -> list[str]:
        told: list[str] = []

        async def worker(name: str) -> None:
            for step in range(5):
                told.append(f"{name}{step}")
                await asyncio.sleep(0)

        async def main(loop: SimulationLoop) -> None:
            for name in "abc":
                loop.start_process(name, lambda name=name: worker(name))  # type: ignore[misc]
            await asyncio.sleep(1)

        run(main, seed)
        return told

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(10)}) > 5
    for name in "abc":
        assert [told for told in order(3) if told[0] == name] == [f"{name}{n}" for n in range(5)]


@pytest.mark.parametrize("complaint", ["nothing is left", "on and on", "thread", "boom"])
def test_what_would_hang_or_hide_ends_the_run(complaint: str) -> None:
    """No event to wait for, no end, a thread, an error that nobody would have seen."""

    async def main(loop: SimulationLoop) -> None:
        if complaint == "nothing is left":
            await asyncio.Event().wait()
        if complaint == "thread":
            await asyncio.to_thread(print)
        if complaint == "boom":
            loop.call_soon(lambda: 1 / 0)
        for _ in range(10_000):
            await asyncio.sleep(0)

    loop = SimulationLoop(random.Random(1), most_callbacks=1_000)
    expected = "division by zero" if complaint == "boom" else complaint
    with pytest.raises(SimulationStuckError, match=expected):
        loop.run_until_complete(main(loop))
    loop.end()
