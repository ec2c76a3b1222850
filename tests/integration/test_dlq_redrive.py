"""``floodwatch dlq redrive`` on a real broker: what it sends, and that it sends it once."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from monitor.kafka.dead_letters import Position
from monitor.kafka.log_reader import LogReader
from monitor.kafka.outbound import OutboundMessage
from monitor.kafka.redrive import (
    ATTEMPT_HEADER,
    BATCH_LETTERS,
    ORIGIN_HEADER,
    RECEIVED_HEADER,
    RedriveError,
)
from monitor.kafka.redrive_ledger import LEDGER_SUFFIX, load_ledger
from monitor.kafka.topics import TopicSpec, create_topics
from monitor.wire import Reason
from tests.integration.dlq_harness import PARTITIONS, Place, killed_redrive
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.letters import LETTER_MS, event_bytes, letter_message

Capture = pytest.CaptureFixture[str]
DAY_MS = 86_400_000


@pytest.fixture
def place(kafka: KafkaBroker | ExistingBroker, tmp_path: Path) -> Place:
    return Place.create(kafka.bootstrap, tmp_path)


def redrive(place: Place, capfd: Capture, *arguments: str) -> dict[str, int]:
    """What became of the letters of the source, by outcome; and ``sent``, ``settled``."""
    code, out, _ = place.run(capfd, "redrive", "--json", *arguments)
    assert code == 0
    (topic,) = (topic for topic in json.loads(out)["topics"] if topic["topic"] == place.source)
    found = Counter({name: topic[name] for name in ("sent", "settled", "late")})
    for outcome in topic["outcomes"]:
        found[outcome["outcome"]] += outcome["letters"]
    return {name: count for name, count in found.items() if count}


def sources(place: Place, *, committed_only: bool = False) -> list[Position]:
    """Where the records of the source topic come from, by their headers."""
    records = place.records(place.source, committed_only=committed_only)
    return [
        Position.parse((dict(record.headers)[ORIGIN_HEADER] or b"").decode()) for record in records
    ]


def positions(place: Place, numbers: range) -> set[Position]:
    return {Position(place.source, n % PARTITIONS, n) for n in numbers}


def test_redrive_sends_what_passes_now_to_where_it_came_from(place: Place, capfd: Capture) -> None:
    """The same partition and key, the bytes as they were, and where they come from beside."""
    place.put([*place.good(30), *place.bad(8, first=30)])
    assert redrive(place, capfd, "--dry-run") == {"sent": 30, "passes": 30, "refused": 8}
    assert place.records(place.source) == []
    assert redrive(place, capfd) == {"sent": 30, "passes": 30, "refused": 8}
    letters = {letter.source: letter for letter in place.letters()}
    records = place.records(place.source)
    assert len(records) == 30
    for partition in range(PARTITIONS):
        found = [record for record in records if record.partition == partition]
        origins = [dict(record.headers)[ORIGIN_HEADER] for record in found]
        expected = [f"{place.source}[{partition}]@{n}" for n in range(partition, 30, PARTITIONS)]
        assert [(origin or b"").decode() for origin in origins] == expected, "in order"
    for record, origin in zip(records, sources(place), strict=True):
        letter = letters[origin]
        assert (record.partition, record.key, record.value) == (
            origin.partition,
            letter.key,
            letter.raw,
        )
        assert dict(record.headers)[RECEIVED_HEADER] == b"%d" % LETTER_MS
        assert dict(record.headers)[ATTEMPT_HEADER] == b"1"
    code, out, _ = place.run(capfd, "show", f"{place.source}[0]@0")
    assert code == 0
    assert f"UTC to {place.source}[0]@0, attempt 1" in out
    _, out, _ = place.run(capfd, "list")
    assert "38 dead letters, 30 of them driven again" in out


def test_redrive_again_sends_nothing_again(place: Place, capfd: Capture) -> None:
    """Also with other filters in between, which no single offset could remember."""
    place.put([*place.good(9), *place.bad(5, first=20), *place.good(9, first=40)])
    assert redrive(place, capfd, "--partition", "1")["sent"] == 6
    assert redrive(place, capfd, "--reason", "malformed_json", "--all") == {"sent": 5, "forced": 5}
    assert redrive(place, capfd, "--limit", "4")["sent"] == 4
    assert redrive(place, capfd) == {"sent": 8, "passes": 8, "redriven": 15}
    assert redrive(place, capfd, "--all") == {"redriven": 23}
    assert redrive(place, capfd, "--dry-run") == {"redriven": 23}
    assert len(sources(place)) == len(set(sources(place))) == 23
    code, out, _ = place.run(capfd, "redrive")
    assert (code, out.splitlines()[-1]) == (0, "0 of 23 sent")


@pytest.mark.parametrize(
    ("failpoint", "kills", "settled", "unsettled"),
    [
        ("letters-claimed", 1, 0, BATCH_LETTERS),
        ("letters-sent", 2, BATCH_LETTERS, BATCH_LETTERS),
        ("letters-entered", 1, 0, 0),
    ],
)
def test_redrive_killed_anywhere_and_run_again_sends_each_letter_once(
    place: Place, capfd: Capture, failpoint: str, kills: int, settled: int, unsettled: int
) -> None:
    """Killed in its second batch: a worker reads every event once, and misses none."""
    count = 2 * kills * BATCH_LETTERS + 100
    place.put(place.good(count))
    for _ in range(kills):
        killed_redrive(place, failpoint, 2)
    assert redrive(place, capfd, "--dry-run").get("unsettled", 0) == unsettled
    outcome = redrive(place, capfd)
    assert outcome.get("settled", 0) == settled
    assert outcome["redriven"] + outcome["sent"] == count
    found = sources(place)
    assert len(found) == len(set(found)) == count
    assert set(found) == positions(place, range(count))
    assert redrive(place, capfd) == {"redriven": count}


@pytest.mark.parametrize("paused_before", ["claiming", "sending"])
def test_a_redrive_that_was_paused_cannot_write_beside_another(
    place: Place, paused_before: str
) -> None:
    """Ctrl-Z, somebody else runs it, fg: the broker refuses the first from then on."""
    place.put(place.good(6))
    letters = place.letters()
    with place.redriver() as paused:
        paused.send(letters[:2])
        claims = [paused._claim(letter, 0) for letter in letters[2:]]
        with place.redriver() as other:
            redriven = [other.ledger.is_redriven(letter.id) for letter in letters]
            assert redriven == [True, True, False, False, False, False]
            other.send(letters[2:])
        stopped = r"another re-drive of .* has begun, this one stopped after 2 letters"
        writes = {
            "claiming": lambda: paused._enter(claims),
            "sending": lambda: paused._send_and_enter(letters[2:], claims, 2**62),
        }
        with pytest.raises(RedriveError, match=stopped):
            paused._transact(writes[paused_before])
        with pytest.raises(RedriveError, match=stopped):
            paused.send(letters[2:])
    assert len(sources(place)) == len(set(sources(place))) == 6
    with LogReader([place.bootstrap], committed_only=True) as reader:
        assert load_ledger(reader, place.dead_letters).claims == {}


def test_a_redrive_paused_in_the_middle_of_sending_is_ended_by_the_next(place: Place) -> None:
    """Its records are in the log, where workers see them; the next one finds and enters them."""
    place.put(place.good(6))
    letters = place.letters()

    def paused_at(name: str) -> None:
        if name == "letters-sent":
            with place.redriver() as other:
                settled.append(other.settled)
                assert all(other.ledger.is_redriven(letter.id) for letter in letters)

    settled: list[int] = []
    paused = place.redriver()
    paused._failpoint = paused_at
    with paused, pytest.raises(RedriveError, match=r"another re-drive of .* has begun"):
        paused.send(letters)
    assert settled == [6]
    assert len(sources(place)) == 6
    assert sources(place, committed_only=True) == []


def test_a_redrive_that_was_paused_for_long_does_not_go_on(
    place: Place, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would look that late in the log for what it sends."""
    place.put(place.good(3))
    with place.redriver() as paused:
        monkeypatch.setattr("monitor.kafka.redrive._CLAIM_MS", -1)
        with pytest.raises(RedriveError, match=r"was paused for \d+ s before a batch"):
            paused.send(place.letters())
        monkeypatch.undo()
    assert place.records(place.source) == []
    assert redrive(place, capfd) == {"sent": 3, "passes": 3}


def test_a_ledger_that_would_forget_is_refused(place: Place, capfd: Capture) -> None:
    place.put(place.good(3))
    create_topics([place.bootstrap], [TopicSpec(place.dead_letters + LEDGER_SUFFIX, 1, {})])
    code, _, error = place.run(capfd, "redrive")
    assert code == 1
    assert "is not as it must be, or it forgets what was sent: cleanup.policy is delete" in error
    assert place.records(place.source) == []


def test_a_redriven_event_that_fails_again_knows_its_attempts_and_does_not_loop(
    place: Place, capfd: Capture
) -> None:
    """Here the test is the worker: it puts aside what it finds in the topic."""
    place.put(place.bad(3))
    read = 0
    for attempt in (1, 2):
        arguments = ("--all", "--max-attempts", "2")
        assert redrive(place, capfd, *arguments)["sent"] == 3
        records = place.records(place.source)
        fresh = [r for r in records if dict(r.headers)[ATTEMPT_HEADER] == b"%d" % attempt]
        assert len(fresh) == 3
        place.put(
            letter_message(
                record.value,
                offset=record.offset,
                partition=record.partition,
                key=record.key,
                received_ms=record.timestamp_ms,
                reason=Reason.MALFORMED_JSON,
                names=place.names,
            )
            for record in fresh
        )
        read += len(fresh)
        _, out, _ = place.run(capfd, "list", "--each", "--json")
        newest = [json.loads(line) for line in out.splitlines()][-3:]
        assert [line["attempts"] for line in newest] == [attempt] * 3
        assert not any(line["redriven"] for line in newest)
        _, out, _ = place.run(capfd, "show", newest[0]["source"])
        assert f"{attempt}: it was driven again before, from {place.source}[" in out
    assert redrive(place, capfd, "--all", "--max-attempts", "2") == {"redriven": 6, "attempts": 3}
    assert redrive(place, capfd, "--all")["sent"] == 3


def test_what_cannot_be_sent_is_said_and_stays(place: Place, capfd: Capture) -> None:
    place.put(
        [
            letter_message(event_bytes(user_id="u" * 100_000), offset=1, names=place.names),
            letter_message(None, offset=2, names=place.names),
            letter_message(event_bytes(), offset=3, partition=PARTITIONS, names=place.names),
            letter_message(event_bytes(), offset=4, key=b"k" * 2_000, names=place.names),
            OutboundMessage(place.dead_letters, None, b"not ours"),
        ]
    )
    expected = {"cut": 2, "no_value": 1, "no_partition": 1, "unreadable": 1}
    assert redrive(place, capfd, "--all") == expected
    assert place.records(place.source) == []
    code, out, _ = place.run(capfd, "redrive", "--all")
    assert code == 0
    assert "cut when they were put aside" in out
    assert "their partition is no longer there" in out
    assert out.splitlines()[-1] == "0 of 5 sent"


def test_old_events_are_sent_and_said_to_be_late(place: Place, capfd: Capture) -> None:
    """The longest window of the pack here is a day."""
    old_ms = int(time.time() * 1_000) - 2 * DAY_MS
    place.put([letter_message(event_bytes(time=old_ms), offset=1, names=place.names)])
    code, out, _ = place.run(capfd, "redrive")
    assert code == 0
    assert "1 of those sent are older than the longest window" in out
    assert len(place.records(place.source)) == 1


def test_a_ledger_with_a_strange_record_is_not_believed(place: Place, capfd: Capture) -> None:
    """Going on without it could send something twice."""
    place.put(place.good(2))
    assert redrive(place, capfd)["sent"] == 2
    ledger = place.dead_letters + LEDGER_SUFFIX
    place.put([OutboundMessage(ledger, b"0/1/2", b"{}")])
    for command in ("redrive", "list"):
        code, _, error = place.run(capfd, command)
        assert code == 1
        assert f"error: {ledger}[0]@" in error
        assert "is no entry of a ledger of re-drives" in error
