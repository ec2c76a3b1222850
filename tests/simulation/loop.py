"""An event loop without time or threads: a seed decides what happens next.

Time passes only when nothing else can happen. Every callback belongs to a *process*: the one
whose code scheduled it, else the world around them. Within a process callbacks run in the order
that asyncio promises; between processes the seed chooses. So real coroutines run in it unchanged,
and a process can be paused (SIGSTOP), resumed and killed (SIGKILL) between any two callbacks.

The idea is FoundationDB's (https://apple.github.io/foundationdb/testing.html), also known from
TigerBeetle's VOPR and from madsim.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar, TypeVarTuple, Unpack

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine, Generator
    from concurrent.futures import Executor

__all__ = ["Process", "ProcessKilledError", "SimulationLoop", "SimulationStuckError"]

_PROCESS: Final[ContextVar[Process]] = ContextVar("process")
_MOST_CANCELLATIONS: Final = 50
_CALLBACKS_TO_END: Final = 10_000

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")


class SimulationStuckError(Exception):
    """Nothing can happen any more, or it never ends."""


class ProcessKilledError(BaseException):
    """Raised where code of a killed process, being cleared away, tries to touch the world."""


class Process:
    """What is paused and killed as one. Make it by ``SimulationLoop.start_process``."""

    def __init__(self, name: str, parent: Context) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in order, unlike a set
        self.context = parent
        self.context.run(_PROCESS.set, self)

    def __repr__(self) -> str:
        return self.name

    def require_alive(self) -> None:
        """Whatever a process does to the world begins with this."""
        if not self.alive:
            raise ProcessKilledError(self.name)


class SimulationLoop(asyncio.BaseEventLoop):
    """Runs callbacks of processes one at a time, in virtual seconds from 0.

    ``most_callbacks`` bounds a run: beyond it something goes round in circles.
    """

    def __init__(self, rng: random.Random, *, most_callbacks: int = 2_000_000) -> None:
        super().__init__()
        self._rng = rng
        self._now_s = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Process]] = []
        self._timers_made = 0
        self._callbacks_left = most_callbacks
        self.world = Process("world", copy_context())
        self._processes = [self.world]
        self._complaints: list[dict[str, Any]] = []

    # -- processes

    def start_process(self, name: str, main: Callable[[], Coroutine[Any, Any, None]]) -> Process:
        """Run ``main`` as a process of its own."""
        process = Process(name, copy_context())
        self._processes.append(process)
        process.context.run(self.create_task, main())
        return process

    def current_process(self) -> Process:
        """Whose code is running."""
        return _PROCESS.get(self.world)

    def in_world(self, delay_s: float, callback: Callable[[], object]) -> None:
        """Have the world do something later, whatever becomes of the caller's process."""
        self.call_later(delay_s, callback, context=self.world.context.copy())

    def kill(self, process: Process) -> None:
        """Not another line of ``process`` has an effect from here on."""
        if process.alive:
            process.alive = False
            self._processes.remove(process)
            self.in_world(0.0, lambda: self._clear_away(process))

    def _clear_away(self, process: Process) -> None:
        """Unwind the coroutines of a killed process; the world refuses what they try meanwhile.

        What was ready to run still has to, or its tasks would never hear that they are cancelled.
        """
        for _ in range(_MOST_CANCELLATIONS):
            for task in list(process.tasks):
                task.cancel()
            while process.ready:
                self._run_handle(process.ready.popleft())
            if not process.tasks:
                return
        raise SimulationStuckError(f"{process} was killed, but {process.tasks} would not end")

    def end(self) -> None:
        """Unwind all that is left, so that nothing runs when the garbage is collected."""
        ended = self.create_future()

        def unwind() -> None:
            for process in self._processes:
                process.alive = False
                self._clear_away(process)
            ended.set_result(None)

        self._complaints.clear()
        self._callbacks_left = _CALLBACKS_TO_END
        self.call_soon(unwind, context=self.world.context.copy())
        self.run_until_complete(ended)
        self.close()

    # -- the event loop

    def time(self) -> float:
        return self._now_s

    def call_soon(
        self,
        callback: Callable[[Unpack[_Arguments]], object],
        *args: *_Arguments,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._owner(context).ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # there is one thread

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[_Arguments]], object],
        *args: *_Arguments,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, timer, self._owner(context)))
        return timer

    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[_T]:
        tasks = self._owner(context).tasks
        label = None if name is None else str(name)
        task: asyncio.Task[_T] = asyncio.Task(coro, loop=self, name=label, context=context)
        tasks[task] = None
        task.add_done_callback(lambda done: tasks.pop(done, None), context=context)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nothing is only logged here: whatever asyncio complains of ends the run."""
        # Nobody waits any more for what was gathered by a process that was killed.
        if not isinstance(context.get("exception"), ProcessKilledError | asyncio.CancelledError):
            self._complaints.append(context)

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[_Arguments]], _T],
        *args: *_Arguments,
    ) -> NoReturn:
        raise SimulationStuckError(f"{func} was to run in a thread: inject what runs it inline")

    def _owner(self, context: Context | None) -> Process:
        return _PROCESS.get(self.world) if context is None else context.get(_PROCESS, self.world)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing: a cancelled timer is left out when its time comes."""

    def _run_once(self) -> None:
        if self._complaints:
            first = self._complaints[0]
            raise SimulationStuckError(f"asyncio: {first}") from first.get("exception")
        able = [process for process in self._processes if process.ready and not process.paused]
        if not able:
            self._pass_time()
            return
        self._callbacks_left -= 1
        if self._callbacks_left < 0:
            raise SimulationStuckError(f"it goes on and on, at {self._now_s:.3f} s")
        process = able[0] if len(able) == 1 else self._rng.choice(able)
        self._run_handle(process.ready.popleft())

    @staticmethod
    def _run_handle(handle: asyncio.Handle) -> None:
        if not handle.cancelled():
            handle._run()

    def _pass_time(self) -> None:
        while self._timers:
            when_s, _, timer, process = heapq.heappop(self._timers)
            if process.alive and not timer.cancelled():
                self._now_s = max(self._now_s, when_s)
                process.ready.append(timer)
                return
        raise SimulationStuckError(f"nothing is left to happen at {self._now_s:.3f} s")
