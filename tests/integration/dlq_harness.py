"""What the tests of dead letters share: topics of their own, letters in them, killed re-drives.

Run as a program it is a re-drive that gets killed: see ``main``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka import KafkaProducer

from monitor.cli import main as floodwatch
from monitor.kafka.dead_letters import Letter, read_letters
from monitor.kafka.log_reader import LogReader, LogRecord
from monitor.kafka.outbound import OutboundMessage
from monitor.kafka.redrive import BATCH_LETTERS, Redriver
from monitor.kafka.topics import TopicNames, TopicSpec, create_topics
from monitor.wire import Reason
from tests.support.letters import event_bytes, letter_message
from tests.support.topics import topic_lines

__all__ = ["PARTITIONS", "Place", "killed_redrive"]

PARTITIONS = 3
PACK = {
    "features.yaml": """\
windows: {1h: {panes: 4}, 24h: {panes: 4}}
features:
  - {name: shares, kind: count, where: "type = 'share.created'", windows: [1h, 24h]}
""",
    "limits.yaml": """\
default_tier: free
decision: 1m
actions: {share: "type = 'share.created'"}
limits: [{name: per_minute, action: share, per: 1m, allow: {free: 600}}]
""",
    "rules.yaml": """\
rules:
  - id: many-shares
    title: Many shares
    when: "shares_1h >= 1000"
    severity: low
    cooldown: 10m
    runbook: docs/runbooks/none.md
    cases:
      - {name: many, fires: true, columns: {shares_1h: 1000}}
      - {name: few, fires: false, columns: {shares_1h: 999}}
""",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Topics of one test, and a configuration file that names them."""

    bootstrap: str
    names: TopicNames
    settings: Path

    @classmethod
    def create(cls, bootstrap: str, folder: Path) -> Place:
        """Input topics as they should be, each with its dead letters."""
        names = TopicNames.with_prefix(f"t{uuid.uuid4().hex[:8]}-")
        time = {"message.timestamp.type": "LogAppendTime"}
        inputs = [TopicSpec(name, PARTITIONS, time) for name in names.inputs]
        dead = [TopicSpec(names.dead_letters(name), 1, {}) for name in names.inputs]
        create_topics([bootstrap], [*inputs, *dead])
        return cls(bootstrap, names, write_settings(bootstrap, names, folder))

    @property
    def source(self) -> str:
        """The input topic that the tests use."""
        return self.names.generation_events

    @property
    def dead_letters(self) -> str:
        return self.names.dead_letters(self.source)

    def good(self, count: int, *, first: int = 0) -> list[OutboundMessage]:
        """Letters of events that pass today: an older version refused them."""
        now_ms = int(time.time() * 1_000)
        return [
            letter_message(
                event_bytes(event_id=f"evt-{n}", time=now_ms, user_id=f"user-{n % 7}"),
                offset=n,
                partition=n % PARTITIONS,
                key=b"user-%d" % (n % 7),
                names=self.names,
            )
            for n in range(first, first + count)
        ]

    def bad(self, count: int, *, first: int = 0) -> list[OutboundMessage]:
        """Letters of events that nobody can read."""
        return [
            letter_message(
                b"{",
                offset=n,
                partition=n % PARTITIONS,
                reason=Reason.MALFORMED_JSON,
                path="$",
                names=self.names,
            )
            for n in range(first, first + count)
        ]

    def put(self, messages: Iterable[OutboundMessage]) -> None:
        """Publish what a worker would, in order."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all", linger_ms=5)
        try:
            for message in messages:
                producer.send(
                    message.topic,
                    key=message.key,
                    value=message.value,
                    headers=list(message.headers),
                )
            producer.flush()
        finally:
            producer.close()

    def records(self, topic: str, *, committed_only: bool = False) -> list[LogRecord]:
        """All of a topic, by partition: as a worker reads it, or as readers of the committed do."""
        with LogReader([self.bootstrap], committed_only=committed_only) as reader:
            return [
                record
                for partition in reader.partitions(topic)
                for record in reader.read(topic, partition, *reader.bounds(topic, partition))
            ]

    def letters(self) -> list[Letter]:
        with LogReader([self.bootstrap]) as reader:
            entries = list(read_letters(reader, self.dead_letters))
        return [entry for entry in entries if isinstance(entry, Letter)]

    def redriver(self) -> Redriver:
        return Redriver([self.bootstrap], source=self.source, dead_letters=self.dead_letters)

    def run(
        self, capfd: pytest.CaptureFixture[str], command: str, *arguments: str
    ) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of ``floodwatch dlq``."""
        with pytest.raises(SystemExit) as ended:
            floodwatch(["dlq", command, *arguments, "--config", str(self.settings)])
        out, error = capfd.readouterr()
        assert "Traceback" not in error
        return int(ended.value.code or 0), out, error


def write_settings(bootstrap: str, names: TopicNames, folder: Path) -> Path:
    """A configuration file, with a pack that loads quickly."""
    pack = folder / "pack"
    pack.mkdir()
    for name, text in PACK.items():
        (pack / name).write_text(text, "utf-8")
    listed = topic_lines(names)
    path = folder / "floodwatch.yaml"
    path.write_text(f"pack: {pack}\nkafka:\n  brokers: {bootstrap}\n  topics:\n{listed}\n", "utf-8")
    return path


def killed_redrive(place: Place, failpoint: str, count: int) -> None:
    """Drive all letters again in a process that is killed (-9) at a failpoint."""
    command = [sys.executable, "-m", __name__, place.bootstrap, place.source, place.dead_letters]
    ended = subprocess.run([*command, failpoint, str(count)], check=False, timeout=120)
    assert ended.returncode == -signal.SIGKILL


def main(arguments: Sequence[str]) -> None:
    """Drive every letter of a topic again; killed the COUNTth time it gets to FAILPOINT."""
    bootstrap, source, dead_letters, wanted, count = arguments
    left = int(count)

    def reached(name: str) -> None:
        nonlocal left
        left -= name == wanted
        if name == wanted and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with (
        LogReader([bootstrap]) as reader,
        Redriver(
            [bootstrap], source=source, dead_letters=dead_letters, failpoint=reached
        ) as redriver,
    ):
        entries = list(read_letters(reader, dead_letters))
        letters = [entry for entry in entries if isinstance(entry, Letter)]
        letters = [letter for letter in letters if not redriver.ledger.is_redriven(letter.id)]
        for start in range(0, len(letters), BATCH_LETTERS):
            redriver.send(letters[start : start + BATCH_LETTERS])


if __name__ == "__main__":
    main(sys.argv[1:])
