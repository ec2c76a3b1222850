"""Which letters are driven again, and why the others stay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

import pytest

from detectors.events import COLUMNS_BY_NAME
from monitor.kafka.dead_letter_verdicts import PresentDecoder
from monitor.kafka.dead_letters import Letter, Position, Unreadable
from monitor.kafka.dlq import MAX_KEY_BYTES, MAX_RAW_BYTES
from monitor.kafka.redrive import BATCH_LETTERS
from monitor.kafka.redrive_ledger import REMEMBERED_MS, Ledger, LedgerEntry, Sent
from monitor.kafka.redrive_plan import Outcome, RedriveOptions, RedrivePlan, Tally
from monitor.kafka.topics import TopicNames
from tests.support.letters import LETTER_MS, event_bytes, letter
from tests.support.malformed import KINDS

DAY_MS = 86_400_000


def run(
    entries: Iterable[Letter | Unreadable],
    *,
    ledger: Ledger | None = None,
    now_ms: int = LETTER_MS,
    **options: Any,  # noqa: ANN401 - those of RedriveOptions
) -> tuple[Tally, list[Letter]]:
    """What becomes of the entries, and what was sent, in order."""
    sent: list[Letter] = []

    def send(letters: Sequence[Letter]) -> None:
        assert 0 < len(letters) <= BATCH_LETTERS
        sent.extend(letters)

    plan = RedrivePlan(
        "generation-events",
        range(4),
        ledger or Ledger(),
        PresentDecoder(COLUMNS_BY_NAME, DAY_MS),
        RedriveOptions(**options),
        now_ms=lambda: now_ms,
        send=send,
    )
    return plan.run(entries), sent


def entry(letter: Letter, *, attempt: int = 1, sent_to: int | None = None) -> LedgerEntry:
    partition, offset, timestamp_ms = letter.id
    sent = None if sent_to is None else Sent(offset=sent_to, timestamp_ms=LETTER_MS)
    return LedgerEntry(
        partition=partition,
        offset=offset,
        timestamp_ms=timestamp_ms,
        attempt=attempt,
        from_offset=0,
        sent=sent,
    )


GOOD = event_bytes()
NAMES = TopicNames()
STAYS: dict[Outcome, Letter | Unreadable] = {
    Outcome.UNREADABLE: Unreadable(Position("generation-events-dlq", 0, 3), LETTER_MS, "no JSON"),
    Outcome.ELSEWHERE: letter(GOOD, source=NAMES.sharing_events),
    Outcome.NO_VALUE: letter(None),
    Outcome.CUT: letter(GOOD + b" " * MAX_RAW_BYTES),
    Outcome.NO_PARTITION: letter(GOOD, partition=4),
    Outcome.TOO_OLD: letter(GOOD, written_ms=LETTER_MS - REMEMBERED_MS - 1),
}


@pytest.mark.parametrize("outcome", STAYS)
@pytest.mark.parametrize("forced", [False, True])
def test_what_cannot_be_sent_stays_whatever_is_asked_for(outcome: Outcome, forced: bool) -> None:
    tally, sent = run([STAYS[outcome]], forced=forced)
    assert tally.outcomes == {(outcome, "", ""): 1}
    assert sent == []


def test_a_key_that_may_have_been_cut_is_not_sent() -> None:
    """Nobody would find the user's other events under half a key."""
    whole, cut = letter(GOOD, key=b"k" * (MAX_KEY_BYTES - 1)), letter(GOOD, key=b"k" * 5_000)
    assert [run([whole])[1], run([cut])[1]] == [[whole], []]


@pytest.mark.parametrize("kind", [kind for kind, (_, raw) in KINDS.items() if raw is not None])
def test_what_is_refused_today_stays_unless_all_is_asked_for(kind: str) -> None:
    """With the reason of today, which need not be that of the letter."""
    reason, raw = KINDS[kind]
    assert raw is not None
    if len(raw) > MAX_RAW_BYTES:
        assert run([letter(raw)], forced=True)[0].of(Outcome.CUT) == 1
        return
    tally, sent = run([letter(raw)])
    (((outcome, today, path), number),) = tally.outcomes.items()
    assert (outcome, today, number) == (Outcome.REFUSED, reason, 1)
    assert path.startswith("$")
    assert sent == []
    tally, sent = run([letter(raw)], forced=True)
    assert (tally.of(Outcome.FORCED), len(sent)) == (1, 1)


def test_what_passes_today_is_sent_in_order_and_in_batches() -> None:
    letters = [
        letter(event_bytes(event_id=f"e{n}"), offset=n) for n in range(2 * BATCH_LETTERS + 1)
    ]
    tally, sent = run(letters)
    assert sent == letters
    assert (tally.letters, tally.sent, tally.of(Outcome.PASSES)) == (1_001, 1_001, 1_001)


def test_a_clock_that_was_ahead_is_right_in_the_end() -> None:
    """An event may be five minutes ahead of the time at which the log receives it: now."""
    early = letter(event_bytes(time=LETTER_MS + 3_600_000))
    assert run([early])[0].outcomes == {(Outcome.REFUSED, "time_in_future", "$.time"): 1}
    assert run([early], now_ms=LETTER_MS + 3_600_000)[1] == [early]


def test_what_is_older_than_the_longest_window_is_sent_and_counted() -> None:
    old, fresh = letter(GOOD, offset=1), letter(event_bytes(time=LETTER_MS + DAY_MS), offset=2)
    tally, sent = run([old, fresh], now_ms=LETTER_MS + DAY_MS + 1)
    assert (len(sent), tally.late) == (2, 1)


def test_a_record_that_has_two_letters_is_sent_once() -> None:
    """A worker that crashed between publishing and committing writes them again."""
    first, again = letter(GOOD, at=3), letter(GOOD, at=9)
    far = [letter(event_bytes(event_id=f"e{n}"), offset=100 + n) for n in range(BATCH_LETTERS)]
    tally, sent = run([first, again, *far, letter(GOOD, at=2_000)])
    assert sent == [first, *far]
    assert tally.of(Outcome.REDRIVEN) == 2


def test_a_record_at_the_same_place_of_a_topic_made_anew_is_another() -> None:
    first, later = letter(GOOD), letter(GOOD, received_ms=LETTER_MS + 1)
    assert run([first, later])[1] == [first, later]


def test_the_ledger_says_what_was_sent_and_what_is_uncertain() -> None:
    sent_before, claimed, fresh = (letter(GOOD, offset=n) for n in (1, 2, 3))
    ledger = Ledger()
    ledger.note(entry(sent_before), LETTER_MS)
    ledger.note(entry(sent_before, sent_to=50), LETTER_MS)
    ledger.note(entry(claimed), LETTER_MS)
    tally, sent = run([sent_before, claimed, fresh], ledger=ledger)
    assert sent == [fresh]
    assert (tally.of(Outcome.REDRIVEN), tally.of(Outcome.UNSETTLED)) == (1, 1)
    ledger.forget_claim(claimed.id)
    assert run([claimed], ledger=ledger)[1] == [claimed]


def test_an_event_is_not_driven_again_for_ever() -> None:
    """Each time it is refused it is a new letter; the ledger knows where that one comes from."""
    ledger = Ledger()
    bad = event_bytes(time="soon")
    offsets = count(100)
    now = letter(bad, offset=1)
    for attempt in range(3):
        assert ledger.attempts(now.id) == attempt
        assert run([now], ledger=ledger, forced=True)[1] == [now]
        refused_at = next(offsets)
        ledger.note(entry(now, attempt=attempt + 1, sent_to=refused_at), LETTER_MS)
        now = letter(bad, offset=refused_at)
    tally, sent = run([now], ledger=ledger, forced=True)
    assert (tally.of(Outcome.ATTEMPTS), sent) == (1, [])
    assert run([now], ledger=ledger, forced=True, max_attempts=4)[1] == [now]


def test_the_limit_is_of_what_is_sent() -> None:
    bad = [letter(event_bytes(time="soon"), offset=n) for n in range(5)]
    good = [letter(GOOD, offset=10 + n) for n in range(5)]
    mixed = [one for pair in zip(bad, good, strict=True) for one in pair]
    tally, sent = run(mixed, limit=3)
    assert (sent, tally.limited) == (good[:3], True)
    tally, sent = run(mixed, limit=5)
    assert (sent, tally.limited) == (good, False)


def test_without_a_sender_nothing_is_sent_and_the_rest_is_the_same() -> None:
    letters = [letter(GOOD, offset=n % 40) for n in range(60)]
    dry = RedrivePlan(
        "generation-events",
        range(4),
        Ledger(),
        PresentDecoder(COLUMNS_BY_NAME, DAY_MS),
        RedriveOptions(),
        now_ms=lambda: LETTER_MS,
    )
    assert dry.run(letters) == run(letters)[0]
