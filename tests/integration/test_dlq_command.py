"""``floodwatch dlq`` on a real broker: what it says of what is there and of what cannot be."""

from __future__ import annotations

import json
import time
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitor.cli import main as floodwatch
from monitor.kafka.log_reader import LogReader
from monitor.kafka.outbound import OutboundMessage
from monitor.kafka.redrive_ledger import LEDGER_SUFFIX
from monitor.kafka.topics import TopicNames
from tests.integration.dlq_harness import Place, write_settings
from tests.kafka import ExistingBroker, KafkaBroker
from tests.support.letters import event_bytes, letter_message
from tests.support.waiting import wait_until

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def place(kafka: KafkaBroker | ExistingBroker, tmp_path: Path) -> Place:
    return Place.create(kafka.bootstrap, tmp_path)


# -- list


def test_list_counts_by_reason_and_path_with_examples(place: Place, capfd: Capture) -> None:
    place.put([*place.good(40), *place.bad(7)])
    place.put([OutboundMessage(place.dead_letters, None, b"not ours")])
    code, out, _ = place.run(capfd, "list", "--json")
    assert code == 0
    facts = json.loads(out)
    assert (facts["letters"], facts["unreadable"], facts["missing_topics"]) == (47, 1, [])
    first, second = facts["groups"]
    assert (first["topic"], first["letters"], first["redriven"]) == (place.dead_letters, 40, 0)
    assert (first["reason"], first["path"]) == ("wrong_type", "$.time")
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
    place.put(place.good(20))
    between_ms = max(letter.written_ms for letter in place.letters()) + 1
    wait_until(lambda: time.time() * 1_000 >= between_ms, "it is later")
    place.put(place.bad(10, first=20))

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
    place.put([*place.good(5), letter_message(raw, offset=77, partition=2, names=place.names)])
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


# -- what goes wrong


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


def test_without_a_broker_it_ends_with_1_and_says_where_it_looked(
    place: Place, capfd: Capture
) -> None:
    code, _, error = place.run(capfd, "list", "--brokers", "127.0.0.1:1")
    assert code == 1
    assert "error: no Kafka broker answers at 127.0.0.1:1" in error
