"""An event loop on a thread of its own, for what goes on while faults happen."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["Background"]

_STOP_DEADLINE_S: Final = 30.0


class Background:
    """Runs coroutines beside the main thread. At the end all that still run are cancelled."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chaos-background")
        self._running: list[Future[Any]] = []

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin with ``work``; its failure is raised by ``check``."""
        self._running.append(asyncio.run_coroutine_threadsafe(work, self._loop))

    def check(self) -> None:
        """Raise the error of what has failed, if anything has."""
        for future in self._running:
            if future.done():
                future.result()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ending = asyncio.run_coroutine_threadsafe(_cancel_others(), self._loop)
        try:
            ending.result(_STOP_DEADLINE_S)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_DEADLINE_S)
            self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
