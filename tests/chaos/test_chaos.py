"""A short version of ``make chaos``: a kill at every failpoint, a zombie, and nothing is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from detectors.compiled import compile_pack
from detectors.state import state_digest
from detectors.topology import Topology
from monitor.failpoints import FAILPOINTS
from monitor.packs import load_pack
from tests.chaos.command import run_sections
from tests.chaos.figures import ZEROS, broker_figures
from tests.chaos.final_state import read_final_state
from tests.chaos.history import compare_with_history
from tests.chaos.judge import Verdict
from tests.chaos.oracle import expect, read_log
from tests.chaos.place import PARTITIONS
from tests.chaos.plan import short_plan
from tests.chaos.published import compare, read_published
from tests.chaos.report import Reporter
from tests.chaos.user_counts import miscount
from tests.kafka import ExistingBroker, KafkaBroker

# A minute on a quiet machine; workers take long to start. Rebalances go on for as long as beats of
# the heart come late.
pytestmark = [pytest.mark.timeout(900), pytest.mark.alone]

_EVENTS = 60_000
_SEED = 7


@pytest.fixture(scope="module")
def verdict(
    kafka: KafkaBroker | ExistingBroker, tmp_path_factory: pytest.TempPathFactory
) -> Verdict:
    """A short run; its logs are in the temporary folder."""
    if isinstance(kafka, ExistingBroker):
        pytest.skip("the run wants a broker of its own; unset FLOODWATCH_TEST_KAFKA")
    folder: Path = tmp_path_factory.mktemp("chaos")
    reporter = Reporter(Console(width=200))
    (found,) = run_sections(kafka, short_plan(_SEED, _EVENTS), folder, _SEED, reporter)
    return found


@pytest.fixture(scope="module")
def figures(verdict: Verdict) -> Mapping[str, Any]:
    return broker_figures([verdict])


def test_nothing_is_lost_whatever_happens_to_workers(
    figures: Mapping[str, Any], verdict: Verdict
) -> None:
    """Events, final states, alerts and the store are those of one pass over the topics."""
    folder = verdict.outcome.journal.path.parent
    wrong = [p for p in verdict.partitions if not p.equal or p.problem]
    assert {name: figures[name] for name in ZEROS if name in figures} == {
        name: 0 for name in ZEROS if name.startswith("broker_")
    }, f"logs, journal and differences are in {folder}; partitions: {wrong}"
    assert figures["broker_events"] >= _EVENTS
    assert figures["broker_alerts"] > 0


def test_the_workers_went_through_all_of_it(figures: Mapping[str, Any]) -> None:
    """Otherwise the test above says little."""
    assert figures["broker_kills_at_failpoint"] == dict.fromkeys(FAILPOINTS, 1)
    assert figures["broker_kills"] == len(FAILPOINTS) + 2
    assert figures["broker_zombies"] == 1
    assert figures["broker_workers_ended_by_themselves"] == 0


def test_final_states_name_the_alerts_that_were_published(verdict: Verdict) -> None:
    """And it would be noticed if one were missing, or one too many were there."""
    place = verdict.outcome.place
    alerts, _, incidents = (
        read_published(place.bootstrap, topic, PARTITIONS) for topic in place.names.outputs
    )
    as_it_is = compare_with_history(verdict.stages, alerts, incidents)
    assert [(c.missing, c.unexpected, c.different) for c in as_it_is] == [((), (), ())] * 2
    gone = next(iter(alerts.copies))
    copies = {name: found for name, found in alerts.copies.items() if name != gone}
    found, _ = compare_with_history(
        verdict.stages, replace(alerts, copies={**copies, "alr_none": ()}), incidents
    )
    assert (found.missing, found.unexpected) == ((gone,), ("alr_none",))


def test_the_comparison_notices_one_event_and_one_alert(verdict: Verdict) -> None:
    """A harness that cannot fail proves nothing: one event less, and one alert less."""
    place, topology = verdict.outcome.place, Topology(compile_pack(load_pack("default")))
    log = read_log(place.bootstrap, place.names, 0)
    topic = place.names.generation_events
    asked = [r for r in log.records[topic] if b'"generation.requested"' in r.value]
    others = [record for record in log.records[topic] if record is not asked[-1]]
    one_less = expect(topology, place.names, replace(log, records={**log.records, topic: others}))
    state = read_final_state(topology, place, 0)
    assert state_digest(state.stage) != state_digest(one_less.stage)
    counted = miscount(topology, state.stage, one_less.stage, log.newest_by_key())
    assert (counted.lost, counted.doubled) == (0, 1)
    published = read_published(place.bootstrap, place.names.alerts, PARTITIONS)
    expected = {name: copies[0] for name, copies in published.copies.items()}
    removed, altered = sorted(expected)[:2]
    compared = compare(published, {**expected, "alr_none": b"{}", altered: b"{}"})
    assert (compared.missing, compared.different) == (("alr_none",), (altered,))
    del expected[removed]
    assert compare(published, expected).unexpected == (removed,)
