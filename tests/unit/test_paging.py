"""Pages: one for each cause, told when it begins, again and again, and when it is over."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from detectors.incidents import Alert, IncidentState, IncidentUpdate, Output
from detectors.pack import Severity
from monitor.paging import Alertmanager, AlertmanagerError, Links, Page, Pager
from monitor.paging.open_incidents import open_incidents
from monitor.store import Store
from monitor.store.people import People
from tests.support.outputs import TIME_MS, an_alert, an_incident
from tests.support.waiting import wait_until
from tests.unit.test_ocsf import GROUP

LINKS = Links("https://runbooks.example/floodwatch/", "https://grafana.example/d/x?id={incident}")


@dataclass
class Receiver(Alertmanager):
    """What Alertmanager was told: whether each page fires, by its labels."""

    told: list[list[tuple[Page, int]]] = field(default_factory=list)
    away: bool = False

    def __post_init__(self) -> None:
        super().__init__(["http://127.0.0.1:9"])

    def post(self, pages: Sequence[tuple[Page, int]]) -> None:
        if self.away:
            raise AlertmanagerError("away")
        self.told.append(list(pages))


@dataclass
class Counts:
    firing: int = 0
    resolved: int = 0
    failures: int = 0
    now: tuple[int, int] = (0, 0)

    def paged(self, firing: int, resolved: int) -> None:
        self.firing += firing
        self.resolved += resolved

    def paging_failed(self) -> None:
        self.failures += 1

    def pages(self, firing: int, left_out: int) -> None:
        self.now = (firing, left_out)


class Bench:
    """A store, a pager, and a clock that the test moves."""

    def __init__(self, store: Store, severities: Sequence[Severity] = ("high", "critical")) -> None:
        self.store = store
        self.now_ms = TIME_MS + 5_000
        self.receiver = Receiver()
        self.counts = Counts()
        self.pager = Pager(
            store.engine,
            self.receiver,
            self.counts,
            severities=severities,
            links=LINKS,
            refresh_s=60.0,
            now_ms=lambda: self.now_ms,
        )

    def look(self, *outputs: Output, later_s: float = 2.0) -> list[tuple[str, bool]]:
        """Store outputs and look: which incidents Alertmanager is told of, and if they fire."""
        self.store.write(outputs)
        self.now_ms += round(1_000 * later_s)
        self.receiver.told.clear()
        self.pager.look()
        return [
            (page.labels["incident"], ends_ms > self.now_ms)
            for told in self.receiver.told
            for page, ends_ms in told
        ]

    def pages(self) -> list[Page]:
        return [page for told in self.receiver.told for page, _ in told]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(Store(f"sqlite:///{tmp_path / 'store.db'}")) as store:
        yield Bench(store)


def incident(
    number: int,
    state: IncidentState = "opened",
    **changes: Any,  # noqa: ANN401 - of any field
) -> IncidentUpdate:
    return replace(an_incident(number, state, findings=9 if state == "closed" else 1), **changes)


def campaign(number: int, rule_id: str, severity: Severity) -> tuple[Alert, IncidentUpdate]:
    """The alert and the incident of a rule about the same campaign, with the members u1 and u2."""
    about = {"key_space": "campaign", "key": "cmp_1", "rule_id": rule_id}
    alert = replace(an_alert(number, severity=severity), group=GROUP, **about)  # type: ignore[arg-type]
    return alert, replace(an_incident(number, severity=severity), **about)  # type: ignore[arg-type]


def test_an_incident_is_told_at_once_then_every_refresh_and_when_it_is_over(bench: Bench) -> None:
    assert bench.look(an_alert(1), incident(1)) == [("inc_1", True)]
    assert bench.look() == []
    assert bench.look(later_s=60.0) == [("inc_1", True)]
    assert bench.look(incident(1, "closed")) == [("inc_1", False)]
    assert bench.look(later_s=600.0) == []
    assert (bench.counts.firing, bench.counts.resolved) == (2, 1)


def test_a_page_says_what_where_and_what_to_do(bench: Bench) -> None:
    bench.look(an_alert(1), incident(1))
    (page,) = bench.pages()
    assert page.labels == {
        "alertname": "FloodwatchIncident",
        "severity": "page",
        "service": "floodwatch",
        "group": "rule/burst",
        "rule": "burst",
        "key_space": "user",
        "key": "user-1",
        "incident": "inc_1",
    }
    assert page.annotations == {
        "summary": "Burst of generations: generations_1m 45 >= 30",
        "description": "user user-1: Burst of generations\n- generations_1m = 45 (rule: >= 30)",
        "incident_severity": "high",
        "rules": "burst",
        "command": "floodwatch incidents show inc_1",
        "runbook_url": "https://runbooks.example/floodwatch/docs/runbooks/burst.md",
        "dashboard_url": "https://grafana.example/d/x?id=inc_1",
    }
    assert page.starts_ms == TIME_MS


def test_a_campaign_is_one_page_however_many_rules_and_members_it_has(bench: Bench) -> None:
    """The member's own incident makes no page, that of a stranger does."""
    member = (an_alert(3, key="u1"), incident(3, key="u1"))
    stranger = (an_alert(4, key="stranger"), incident(4, key="stranger"))
    first = campaign(1, "coordinated-group", "high")
    second = campaign(2, "takeover-group", "critical")
    assert bench.look(*first, *member, *stranger) == [("cmp_1", True), ("inc_4", True)]
    (page, _) = bench.pages()
    assert page.labels["group"] == "campaign/cmp_1"
    assert "- members: u1, u2 and 1 more" in page.annotations["description"]
    assert bench.look(*second) == [("cmp_1", True)], "the same page says more"
    (again,) = bench.pages()
    assert again.identity == page.identity
    assert again.annotations["rules"] == "takeover-group, coordinated-group"
    assert again.annotations["incident_severity"] == "critical"
    over = [replace(update, state="closed", findings=9) for _, update in (first, second)]
    assert sorted(bench.look(*over)) == [("cmp_1", False), ("inc_3", True)]


def test_what_should_wake_nobody_does_not(bench: Bench) -> None:
    """Lesser severities, rules in shadow, what is snoozed, what somebody found to be benign."""
    assert bench.look(an_alert(1), incident(1, severity="medium")) == []
    assert bench.look(an_alert(2), incident(2, mode="shadow")) == []
    assert bench.look(an_alert(3, key="b"), incident(3, key="b")) == [("inc_3", True)]
    people = People(bench.store.engine, lambda: bench.now_ms)
    people.judge("inc_3", "benign", "a class", "ann")
    assert bench.look() == [("inc_3", False)]
    assert bench.look(an_alert(4, key="c"), incident(4, key="c")) == [("inc_4", True)]
    people.snooze("inc_4", 3_600_000, "known", "ann")
    assert bench.look() == [("inc_4", False)]
    assert bench.look(later_s=3_700.0) == [("inc_4", True)], "the snooze is over, it is not"


def test_an_incident_waits_once_for_its_alert(bench: Bench) -> None:
    """Alerts and incidents travel by different topics; without an alert there is little to say."""
    assert bench.look(incident(1)) == []
    assert bench.look() == [("inc_1", True)]
    assert bench.look(incident(2, key="b")) == []
    assert bench.look(an_alert(2, key="b")) == [("inc_2", True)]


def test_of_too_many_the_gravest_are_told(bench: Bench) -> None:
    """The rest is counted; of the same severity a campaign goes first, then the oldest."""
    _, group = campaign(9, "coordinated-group", "high")
    bench.store.write(
        [
            incident(1, opened_ms=TIME_MS - 3),
            incident(2, opened_ms=TIME_MS - 2),
            incident(3, severity="critical"),
            group,
        ]
    )
    found, count = open_incidents(bench.store.engine, ["high", "critical"], bench.now_ms, 3)
    assert [one.incident_id for one in found] == ["inc_3", "inc_9", "inc_1"]
    assert count == 4


def test_what_nobody_took_is_told_again(bench: Bench) -> None:
    bench.receiver.away = True
    with pytest.raises(AlertmanagerError):
        bench.look(an_alert(1), incident(1))
    bench.receiver.away = False
    assert bench.look() == [("inc_1", True)]
    bench.receiver.away = True
    with pytest.raises(AlertmanagerError):
        bench.look(incident(1, "closed"))
    bench.receiver.away = False
    assert bench.look() == [("inc_1", False)]


def test_the_loop_goes_on_whatever_fails(bench: Bench) -> None:
    """It counts, and works again as soon as it can."""
    bench.receiver.away = True
    bench.store.write([an_alert(1), incident(1)])
    stop = threading.Event()
    thread = threading.Thread(target=bench.pager.run, args=(stop, 0.01))
    thread.start()
    try:
        wait_until(lambda: bench.counts.failures >= 3, "it fails")
        bench.receiver.away = False
        wait_until(lambda: bench.counts.firing >= 1, "it works again")
    finally:
        stop.set()
        thread.join(10)
    assert not thread.is_alive()
    assert bench.receiver.told


def handler_of(posted: list[Any], code: int) -> type[BaseHTTPRequestHandler]:
    """Notes what is posted, answers ``code``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            posted.append((self.path, body))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(b'"bad labels"')

        def log_message(self, format: str, *args: object) -> None:
            """Tests are quiet."""

    return Handler


@pytest.mark.parametrize("code", [200, 400])
def test_every_member_of_a_cluster_is_told_and_one_is_enough(code: int) -> None:
    posted: list[Any] = []
    page = Page({"alertname": "x"}, {"summary": "y"}, TIME_MS, "https://grafana.example/")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler_of(posted, code)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        try:
            if code == 200:
                Alertmanager(["http://127.0.0.1:9", url]).post([(page, TIME_MS + 1_000)])
            else:
                with pytest.raises(AlertmanagerError, match=r"400 .bad labels"):
                    Alertmanager([url]).post([(page, TIME_MS + 1_000)])
        finally:
            server.shutdown()
            thread.join(10)
    ((path, (alert,)),) = posted
    assert path == "/api/v2/alerts"
    assert alert["startsAt"] == "2026-03-02T09:00:00.000+00:00"
    assert alert["endsAt"] == "2026-03-02T09:00:01.000+00:00"
    assert (alert["labels"], alert["generatorURL"]) == (page.labels, page.url)
