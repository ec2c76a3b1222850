"""Several stages in one process: a worker for each, which start and stop together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitor.kafka.worker import Worker

__all__ = ["Workers"]


class Workers:
    """Workers in one event loop. If one fails, all stop. ``run`` it once."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = tuple(workers)

    @property
    def ready(self) -> bool:
        """Whether every worker is. Callable from any thread."""
        return all(worker.ready for worker in self._workers)

    def stop(self) -> None:
        """Ask all to finish. Callable from any thread, more than once."""
        for worker in self._workers:
            worker.stop()

    async def run(self) -> None:
        """Work until ``stop``, or until one fails: raises what the first one did."""
        tasks = [asyncio.create_task(worker.run()) for worker in self._workers]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self.stop()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
