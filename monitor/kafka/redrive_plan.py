"""Which dead letters are driven again, and why the others are not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Final

from monitor.kafka.dead_letters import Letter
from monitor.kafka.letter_map import LetterMap
from monitor.kafka.redrive import BATCH_LETTERS
from monitor.kafka.redrive_ledger import REMEMBERED_MS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from monitor.kafka.dead_letter_verdicts import PresentDecoder, Verdict
    from monitor.kafka.dead_letters import Unreadable
    from monitor.kafka.redrive_ledger import Ledger

__all__ = ["SENT_OUTCOMES", "Outcome", "RedriveOptions", "RedrivePlan", "Tally"]


class Outcome(StrEnum):
    """What becomes of a letter in a re-drive."""

    PASSES = "passes"
    FORCED = "forced"
    REFUSED = "refused"
    REDRIVEN = "redriven"
    UNSETTLED = "unsettled"
    ATTEMPTS = "attempts"
    CUT = "cut"
    NO_VALUE = "no_value"
    NO_PARTITION = "no_partition"
    ELSEWHERE = "elsewhere"
    TOO_OLD = "too_old"
    UNREADABLE = "unreadable"


SENT_OUTCOMES: Final = (Outcome.PASSES, Outcome.FORCED)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedriveOptions:
    """``forced``: also what would be refused again. ``limit``: the most letters that are sent.

    A letter whose event was driven again ``max_attempts`` times already stays where it is.
    """

    forced: bool = False
    max_attempts: int = 3
    limit: int | None = None


@dataclass(slots=True)
class Tally:
    """What became of the letters: by outcome and, where refused, by reason and path of today.

    ``late`` of those sent are older than the longest window. ``limited``: the limit was reached
    with more to send.
    """

    outcomes: Counter[tuple[Outcome, str, str]] = field(default_factory=Counter)
    late: int = 0
    limited: bool = False

    @property
    def letters(self) -> int:
        """How many were looked at."""
        return self.outcomes.total()

    @property
    def sent(self) -> int:
        """How many were sent, or would be in a dry run."""
        return sum(self.of(outcome) for outcome in SENT_OUTCOMES)

    def of(self, outcome: Outcome) -> int:
        """How many had this outcome."""
        return sum(count for key, count in self.outcomes.items() if key[0] is outcome)


class RedrivePlan:
    """Decides letter by letter for one dead-letter topic, and sends batch by batch.

    ``partitions`` are those that ``source`` has. ``send`` is not called in a dry run: leave it
    out. ``now_ms`` is the wall clock.
    """

    def __init__(
        self,
        source: str,
        partitions: Collection[int],
        ledger: Ledger,
        decoder: PresentDecoder,
        options: RedriveOptions,
        *,
        now_ms: Callable[[], int],
        send: Callable[[Sequence[Letter]], None] | None = None,
    ) -> None:
        self._source = source
        self._partitions = frozenset(partitions)
        self._ledger = ledger
        self._decoder = decoder
        self._options = options
        self._now_ms = now_ms
        self._send = send
        self._taken = LetterMap()
        self._tally = Tally()

    def run(self, entries: Iterable[Letter | Unreadable]) -> Tally:
        """Go through all entries of the topic, once. What ``send`` raises ends it."""
        waiting = iter(entries)
        while not self._tally.limited and (batch := list(islice(waiting, BATCH_LETTERS))):
            chosen = self._choose(batch)
            if chosen and self._send is not None:
                self._send(chosen)
        return self._tally

    def _choose(self, batch: Sequence[Letter | Unreadable]) -> list[Letter]:
        now_ms = self._now_ms()
        fit: list[Letter] = []
        for entry in batch:
            unfit = self._unfit(entry, now_ms)
            if unfit is None:
                assert isinstance(entry, Letter)
                fit.append(entry)
            else:
                self._count(unfit)
        chosen: list[Letter] = []
        for letter, verdict in zip(fit, self._decoder.verdicts(fit, now_ms), strict=True):
            if not verdict.passes and not self._options.forced:
                self._count(Outcome.REFUSED, verdict)
            elif letter.id in self._taken:  # A worker that crashed has written it twice.
                self._count(Outcome.REDRIVEN)
            elif self._options.limit is not None and self._tally.sent >= self._options.limit:
                self._tally.limited = True
                break
            else:
                self._taken[letter.id] = 1
                self._count(Outcome.PASSES if verdict.passes else Outcome.FORCED, verdict)
                chosen.append(letter)
        return chosen

    def _count(self, outcome: Outcome, verdict: Verdict | None = None) -> None:
        if verdict is None:
            self._tally.outcomes[outcome, "", ""] += 1
            return
        self._tally.outcomes[outcome, verdict.reason, verdict.path] += 1
        self._tally.late += verdict.late

    def _unfit(self, entry: Letter | Unreadable, now_ms: int) -> Outcome | None:
        """Why an entry cannot be sent, whatever its bytes say; None if it can."""
        if not isinstance(entry, Letter):
            return Outcome.UNREADABLE
        letter = entry.id
        whys = {
            Outcome.ELSEWHERE: entry.record.source.topic != self._source,
            Outcome.REDRIVEN: self._ledger.is_redriven(letter),
            Outcome.UNSETTLED: letter in self._ledger.claims,
            Outcome.NO_VALUE: entry.raw is None,
            Outcome.CUT: entry.record.truncated or entry.key_may_be_cut,
            Outcome.NO_PARTITION: letter.partition not in self._partitions,
            Outcome.TOO_OLD: entry.written_ms < now_ms - REMEMBERED_MS,
            Outcome.ATTEMPTS: self._ledger.attempts(letter) >= self._options.max_attempts,
        }
        return next((outcome for outcome, holds in whys.items() if holds), None)
