"""Processes that are started, killed, frozen and replaced, each in its slot, each with its log."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.chaos.errors import ChaosError
from tests.servers import die_with_parent

__all__ = ["Ending", "Fleet"]

_REPOSITORY: Final = Path(__file__).resolve().parents[2]
_STOP_DEADLINE_S: Final = 60.0
_LOG_LINES: Final = 25
_FAILPOINT: Final = "FLOODWATCH_FAILPOINT"


@dataclass(frozen=True, slots=True)
class Ending:
    """A process that ended although nobody ended it."""

    slot: int
    code: int
    log: Path
    at_s: float


@dataclass(slots=True)
class _Member:
    process: subprocess.Popen[bytes]
    log: Path
    failpoint: str | None
    frozen: bool = False
    expected_to_die: bool = False


@dataclass(slots=True)
class Fleet:
    """Processes by slot. Leaving the context kills those that are left.

    Each process writes a file of its own in the folder ``logs``. ``command`` makes the command
    line of a slot; give it before the first start. Times are Unix times.
    """

    name: str
    logs: Path
    command: Callable[[int], Sequence[str]] = lambda _slot: ()
    endings_max: int = 10
    started: int = 0
    kills: int = 0
    endings: list[Ending] = field(default_factory=list)
    _members: dict[int, _Member] = field(default_factory=dict)

    @property
    def slots(self) -> tuple[int, ...]:
        """The slots that have a process, frozen or not."""
        return tuple(sorted(self._members))

    def start(self, slot: int, failpoint: str | None = None) -> None:
        """Start a process; ``failpoint`` (NAME:COUNT) is where it will kill itself."""
        if slot in self._members:
            raise ChaosError(f"{self.name} {slot} is running already")
        self.started += 1
        log = self.logs / f"{self.name}-{slot}-{self.started:03d}.log"
        environment = {name: text for name, text in os.environ.items() if name != _FAILPOINT}
        if failpoint is not None:
            environment[_FAILPOINT] = failpoint
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(self.command(slot)),
                cwd=_REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        self._members[slot] = _Member(process, log, failpoint)

    def kill(self, slot: int) -> float:
        """SIGKILL; returns when."""
        member = self._members.pop(slot)
        member.process.kill()
        at_s = time.time()
        member.process.wait()
        self.kills += 1
        return at_s

    def died_at_failpoint(self, slot: int) -> bool:
        """Whether the process of a slot has killed itself.

        One that ended otherwise is noted and started again with the same failpoint.
        """
        member = self._members[slot]
        code = member.process.poll()
        if code is None:
            return False
        del self._members[slot]
        if code == -signal.SIGKILL:
            self.kills += 1
            return True
        self._note(slot, code, member.log)
        self.start(slot, member.failpoint)
        return False

    def freeze(self, slot: int) -> float:
        """SIGSTOP; returns when."""
        member = self._members[slot]
        member.process.send_signal(signal.SIGSTOP)
        member.frozen = True
        return time.time()

    def thaw(self, slot: int) -> None:
        """SIGCONT."""
        member = self._members[slot]
        member.frozen = False
        member.process.send_signal(signal.SIGCONT)

    def terminate(self, slot: int) -> None:
        """SIGTERM; ``ended`` says when it is over."""
        member = self._members[slot]
        member.expected_to_die = True
        member.process.send_signal(signal.SIGTERM)

    def ended(self, slot: int) -> bool:
        """Whether a terminated process has ended. Raises ChaosError where not in order."""
        member = self._members[slot]
        code = member.process.poll()
        if code is None:
            return False
        del self._members[slot]
        not_yet_begun = code == -signal.SIGTERM and not member.log.stat().st_size
        if code != 0 and not not_yet_begun:
            raise ChaosError(
                f"{self.name} {slot} ended with code {code} after SIGTERM:\n{_tail(member.log)}"
            )
        return True

    def stop_all(self) -> None:
        """SIGTERM to all, and wait until they have ended in order."""
        for slot in self.slots:
            self.terminate(slot)
        deadline_s = time.monotonic() + _STOP_DEADLINE_S
        for slot in self.slots:
            while not self.ended(slot):
                if time.monotonic() > deadline_s:
                    tail = _tail(self._members[slot].log)
                    raise ChaosError(f"{self.name} {slot} does not end after SIGTERM:\n{tail}")
                time.sleep(0.02)

    def revive(self) -> None:
        """Start again what has ended by itself, as a service manager would, and note it.

        Raises ChaosError when that happens too often.
        """
        for slot, member in list(self._members.items()):
            code = member.process.poll()
            if code is None or member.expected_to_die or member.failpoint is not None:
                continue
            del self._members[slot]
            self._note(slot, code, member.log)
            self.start(slot)

    def _note(self, slot: int, code: int, log: Path) -> None:
        self.endings.append(Ending(slot, code, log, time.time()))
        if len(self.endings) > self.endings_max:
            raise ChaosError(
                f"{self.name}: processes ended by themselves {len(self.endings)} times, "
                f"now {slot} with code {code}:\n{_tail(log)}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for member in self._members.values():
            member.process.kill()
            member.process.wait()
        self._members.clear()


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return "\n".join([f"(the end of {log})", *lines])
