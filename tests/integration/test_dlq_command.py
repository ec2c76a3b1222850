"""``floodwatch dlq`` on a real broker: what it says, what it sends, and that it sends it once."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitor.cli import main as floodwatch
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
from monitor.kafka.topics import TopicNames
from monitor.wire import Reason
from tests.integration.dlq_harness import PARTITIONS, Place, killed_redrive, write_settings
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.letters import LETTER_MS, event_bytes, letter_message

Capture = pytest.CaptureFixture[str]
DAY_MS = 86_400_000


@pytest.fixture
def place(kafka: KafkaBroker | ExistingBroker, tmp_path: Path) -> Place:
    return Place.create(kafka.bootstrap, tmp_path)


def good(place: Place, count: int, *, first: int = 0) -> list[OutboundMessage]:
    """Letters of events that pass today: an older version refused them."""
    now_ms = int(time.time() * 1_000)
    return [
        letter_message(
            event_bytes(event_id=f"evt-{n}", time=now_ms, user_id=f"user-{n % 7}"),
            offset=n,
            partition=n % PARTITIONS,
            key=b"user-%d" % (n % 7),
            names=place.names,
        )
        for n in range(first, first + count)
    ]


def bad(place: Place, count: int, *, first: int = 0) -> list[OutboundMessage]:
    """Letters of events that nobody can read."""
    return [
        letter_message(
            b"{",
            offset=n,
            partition=n % PARTITIONS,
            reason=Reason.MALFORMED_JSON,
            path="$",
            names=place.names,
        )
        for n in range(first, first + count)
    ]


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


# -- list


def test_list_counts_by_reason_and_path_with_examples(place: Place, capfd: Capture) -> None:
    place.put([*good(place, 40), *bad(place, 7)])
    place.put([OutboundMessage(place.dead_letters, None, b"not ours")])
    code, out, _ = place.run(capfd, "list", "--json")
    assert code == 0
    facts = json.loads(out)
    assert (facts["letters"], facts["unreadable"], facts["missing_topics"]) == (47, 1, [])
    first, second = facts["groups"]
    assert (
        first["topic"],
        first["reason"],
        first["path"],
        first["letters"],
        first["redriven"],
    ) == (
        place.dead_letters,
        "wrong_type",
        "$.time",
        40,
        0,
    )
    assert first["newest"] == [f"{place.source}[{n % 3}]@{n}" for n in (39, 38, 37)]
    assert abs(first["last_ms"] - time.time() * 1_000) < 60_000
    assert (second["reason"], second["letters"]) == ("malformed_json", 7)
    code, out, _ = place.run(capfd, "list")
    assert code == 0
    assert "malformed_json" in out
    assert f"{place.source}[0]@39" in out
    assert "47 dead letters, 0 of them driven again" in out
    assert f"1 records are no dead letters, the newest {place.dead_letters}[0]@47" in out


def test_list_filters(place: Place, capfd: Capture) -> None:
    place.put(good(place, 20))
    between_ms = max(letter.written_ms for letter in place.letters()) + 1
    while time.time() * 1_000 < between_ms:
        time.sleep(0.001)
    place.put(bad(place, 10, first=20))

    def listed(*arguments: str) -> int:
        code, out, _ = place.run(capfd, "list", "--json", *arguments)
        assert code == 0
        return int(json.loads(out)["letters"])

    moment = datetime.fromtimestamp(between_ms / 1_000, UTC).isoformat()
    assert listed() == 30
    assert listed("--reason", "malformed_json") == 10
    assert listed("--reason", "malformed_json", "--reason", "wrong_type") == 30
    assert listed("--partition", "1") == sum(n % 3 == 1 for n in range(30))
    assert listed("--since", moment) == 10
    assert listed("--until", moment) == 20
    assert listed("--since", moment, "--until", moment) == 0
    assert listed("--since", "1h") == 30
    assert listed("--until", "1h") == 0
    assert listed("--topic", place.source) == listed("--topic", place.dead_letters) == 30
    assert listed("--topic", place.names.sharing_events) == 0
    code, out, _ = place.run(capfd, "list", "--each", "--json", "--limit", "25")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["source"] for line in lines] == [f"{place.source}[{n % 3}]@{n}" for n in range(25)]
    assert [line["letter"] for line in lines][:2] == [
        f"{place.dead_letters}[0]@{n}" for n in (0, 1)
    ]


def test_list_of_nothing_says_so(place: Place, capfd: Capture) -> None:
    code, out, _ = place.run(capfd, "list")
    assert (code, out.strip()) == (0, "0 dead letters, 0 of them driven again")


def test_topics_that_are_not_there_are_named_and_not_made(
    kafka: KafkaBroker | ExistingBroker, tmp_path: Path, capfd: Capture
) -> None:
    names = TopicNames.with_prefix("nowhere-")
    place = Place(kafka.bootstrap, names, write_settings(kafka.bootstrap, names, tmp_path))
    for command in ("list", "redrive"):
        code, out, _ = place.run(capfd, command)
        assert code == 0
        assert "nowhere-generation-events" in out
    code, out, _ = place.run(capfd, "list")
    assert (
        "nowhere-generation-events-dlq: there is no such topic; 'floodwatch topics create'" in out
    )
    with LogReader([kafka.bootstrap]) as reader:
        for topic in ("nowhere-generation-events", "nowhere-generation-events-dlq"):
            assert reader.partitions(topic) == reader.partitions(topic + LEDGER_SUFFIX) == []


# -- show


def test_show_says_everything_about_a_letter(place: Place, capfd: Capture) -> None:
    raw = event_bytes(time="soon", user_id="u\u202e")
    place.put([*good(place, 5), letter_message(raw, offset=77, partition=2, names=place.names)])
    by_source = place.run(capfd, "show", f"{place.source}[2]@77")
    by_letter = place.run(capfd, "show", place.dead_letters, "0", "5")
    assert by_source == by_letter
    code, out, _ = by_source
    assert code == 0
    for expected in (
        f"{place.source}[2]@77, received 2026-05-28 20:26:40 UTC",
        f"{place.dead_letters}[0]@5, written ",
        "wrong_type",
        "Expected `int`, got `str`",
        "user-1",
        "floodwatch-reason: wrong_type",
        f"{len(raw)} bytes",
        "would be refused: wrong_type at $.time: Expected `int`, got `str`",
        '"time": "soon",  <-- here',
        '"user_id": "u\\u202e",',
    ):
        assert expected in out
    assert "\u202e" not in out
    code, out, _ = place.run(capfd, "show", f"{place.source}[2]@77", "--json")
    facts = json.loads(out)
    assert (code, b64decode(facts["raw"])) == (0, raw)
    assert (facts["passes_now"], facts["refused_now"]["path"]) == (False, "$.time")
    assert (facts["redriven"], facts["attempts"], facts["truncated"]) == (False, 0, False)


def test_show_writes_the_bytes_as_they_were(
    place: Place, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    raw = bytes(range(256))
    place.put([letter_message(raw, offset=1, names=place.names)])
    with pytest.raises(SystemExit) as ended:
        floodwatch(
            ["dlq", "show", f"{place.source}[0]@1", "--raw", "--config", str(place.settings)]
        )
    assert (ended.value.code or 0, capfdbinary.readouterr().out) == (0, raw)


def test_show_says_what_is_missing(place: Place, capfd: Capture) -> None:
    huge = event_bytes(user_id="u" * 100_000)
    place.put([letter_message(huge, offset=1, names=place.names)])
    place.put([letter_message(None, offset=2, names=place.names)])
    place.put([OutboundMessage(place.dead_letters, None, b"not ours")])
    _, out, _ = place.run(capfd, "show", f"{place.source}[0]@1")
    assert "only the first 65,536 were kept: it cannot be driven again" in out
    assert "cannot be said: its bytes are not all here" in out
    _, out, _ = place.run(capfd, "show", f"{place.source}[0]@2")
    assert "no value (a tombstone)" in out
    assert "would be refused: tombstone at $" in out
    for where, expected in (
        (f"{place.source}[0]@3", "has no letter about it"),
        (f"{place.dead_letters}[0]@2", "is no dead letter: JSON is malformed"),
        (f"{place.dead_letters}[0]@3", "no record is there; the partition holds offsets 0 to 2"),
        (f"{place.dead_letters}[1]@3", "there is no such partition"),
        (f"{place.names.sharing_events}-dlq[0]@0", "the partition is empty"),
    ):
        code, _, error = place.run(capfd, "show", where)
        assert code == 1
        assert expected in error


# -- redrive


def test_redrive_sends_what_passes_now_to_where_it_came_from(place: Place, capfd: Capture) -> None:
    """The same partition and key, the bytes as they were, and where they come from beside."""
    place.put([*good(place, 30), *bad(place, 8, first=30)])
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
    place.put([*good(place, 9), *bad(place, 5, first=20), *good(place, 9, first=40)])
    assert redrive(place, capfd, "--partition", "1")["sent"] == 6
    assert redrive(place, capfd, "--reason", "malformed_json", "--all") == {"sent": 5, "forced": 5}
    assert redrive(place, capfd, "--limit", "4")["sent"] == 4
    assert redrive(place, capfd) == {"sent": 8, "passes": 8, "redriven": 15}
    assert redrive(place, capfd, "--all") == {"redriven": 23}
    assert redrive(place, capfd, "--dry-run") == {"redriven": 23}
    assert len(sources(place)) == len(set(sources(place))) == 23
    code, out, _ = place.run(capfd, "redrive")
    assert (code, out.splitlines()[-1]) == (0, "0 of 23 sent")


@pytest.mark.parametrize("failpoint", ["letters-claimed", "letters-sent", "letters-entered"])
def test_redrive_killed_anywhere_and_run_again_sends_each_letter_once(
    place: Place, capfd: Capture, failpoint: str
) -> None:
    """Killed in its second batch, twice: a worker reads every event once, and misses none."""
    count = 4 * BATCH_LETTERS + 100
    place.put(good(place, count))
    sent_when_killed = {"letters-claimed": 0, "letters-sent": BATCH_LETTERS, "letters-entered": 0}
    for _ in range(2):
        killed_redrive(place, failpoint, 2)
    entered = len(sources(place, committed_only=True))
    unsettled = redrive(place, capfd, "--dry-run").get("unsettled", 0)
    assert unsettled == (0 if failpoint == "letters-entered" else BATCH_LETTERS)
    outcome = redrive(place, capfd)
    assert outcome.get("settled", 0) == sent_when_killed[failpoint]
    assert outcome["sent"] + outcome.get("settled", 0) + entered <= count
    found = sources(place)
    assert len(found) == len(set(found)) == count
    assert set(found) == positions(place, range(count))
    assert redrive(place, capfd) == {"redriven": count}


def test_a_redrive_that_was_paused_cannot_send_beside_another(place: Place) -> None:
    """Ctrl-Z, somebody else runs it, fg: the broker refuses the first from then on."""
    place.put(good(place, 6))
    letters = place.letters()
    with place.redriver() as paused:
        paused.send(letters[:2])
        claims = [paused._claim(letter, 0) for letter in letters[2:]]
        with place.redriver() as other:
            assert [other.ledger.is_redriven(letter.id) for letter in letters] == [
                True,
                True,
                False,
                False,
                False,
                False,
            ]
            other.send(letters[2:])
        for write in (
            lambda: paused._enter(claims),
            lambda: paused._send_and_enter(letters[2:], claims),
        ):
            with pytest.raises(RedriveError, match=r"another re-drive of .* has begun"):
                paused._transact(write)
        with pytest.raises(RedriveError, match="this one stopped after 2 letters"):
            paused.send(letters[2:])
    assert len(sources(place)) == len(set(sources(place))) == 6
    with LogReader([place.bootstrap], committed_only=True) as reader:
        assert load_ledger(reader, place.dead_letters).claims == {}


def test_a_redrive_paused_in_the_middle_of_sending_is_ended_by_the_next(place: Place) -> None:
    """Its records are in the log, where workers see them; the next one finds and enters them."""
    place.put(good(place, 6))
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


def test_a_redriven_event_that_fails_again_knows_its_attempts_and_does_not_loop(
    place: Place, capfd: Capture
) -> None:
    """Here the test is the worker: it puts aside what it finds in the topic."""
    place.put(bad(place, 3))
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
    """The default pack's longest window is a day."""
    old_ms = int(time.time() * 1_000) - 2 * DAY_MS
    place.put([letter_message(event_bytes(time=old_ms), offset=1, names=place.names)])
    code, out, _ = place.run(capfd, "redrive")
    assert code == 0
    assert "1 of those sent are older than the longest window" in out
    assert len(place.records(place.source)) == 1


def test_a_ledger_with_a_strange_record_is_not_believed(place: Place, capfd: Capture) -> None:
    """Going on without it could send something twice."""
    place.put(good(place, 2))
    assert redrive(place, capfd)["sent"] == 2
    ledger = place.dead_letters + LEDGER_SUFFIX
    place.put([OutboundMessage(ledger, b"0/1/2", b"{}")])
    for command in ("redrive", "list"):
        code, _, error = place.run(capfd, command)
        assert code == 1
        assert f"error: {ledger}[0]@" in error
        assert "is no entry of a ledger of re-drives" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--since", "yesterday"], "--since: 'yesterday' is neither a time such as"),
        (["list", "--reason", "wrong_typ"], "did you mean 'wrong_type'?"),
        (["redrive", "--topic", "generation-event"], "is no input topic; did you mean"),
        (["show", "42"], "is not a place: expected TOPIC PARTITION OFFSET"),
        (["redrive", "--pack", "defalt"], "did you mean 'default'?"),
        (["redrive", "--limit", "0"], "--limit"),
        (["list", "--brokers", "nowhere"], "kafka.brokers (from the command line)"),
    ],
)
def test_what_cannot_be_asked_ends_with_2(
    place: Place, capfd: Capture, arguments: list[str], said: str
) -> None:
    code, _, error = place.run(capfd, *arguments)
    assert code == 2
    assert said in error


@pytest.mark.parametrize("command", ["list", "redrive"])
def test_without_a_broker_it_ends_with_1_and_says_where_it_looked(
    place: Place, capfd: Capture, command: str
) -> None:
    code, _, error = place.run(capfd, command, "--brokers", "127.0.0.1:1")
    assert code == 1
    assert "error: no Kafka broker answers at 127.0.0.1:1" in error
