"""The stage of shared keys: whom its alerts are about, what it counts, and what it sends on."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Sequence
from typing import Any, Final

import polars as pl
import pytest

from detectors.batch import EventBatch
from detectors.compiled import compile_pack
from detectors.incidents import Alert
from detectors.shared_stage import SharedStage
from detectors.stages import StageOutputs
from tests.support.events import START_MS, complete
from tests.support.shared import shared_pack, traces_of

_PACK: Final = compile_pack(shared_pack())
_HOUR_S: Final = 3_600


def share(user: str, second: float, **event: Any) -> dict[str, Any]:  # noqa: ANN401 - a cell
    """A share of ``asset_id``, unless ``event`` says otherwise."""
    return {
        "event_id": f"{user}-{second}",
        "type": "share.created",
        "time_ms": START_MS + int(1_000 * second),
        "user_id": user,
        "account_created_ms": START_MS - 86_400_000,
        "tier": "free",
        **event,
    }


def processed(
    events: Sequence[dict[str, Any]], stage: SharedStage | None = None
) -> tuple[StageOutputs, SharedStage]:
    """What a stage says to the traces of events, and the stage."""
    stage = stage or SharedStage(_PACK, 1_000)
    traces = traces_of(_PACK, [EventBatch.of(complete(pl.DataFrame(events)))])
    return stage.process(traces), stage


def alerts(outputs: StageOutputs, key_space: str) -> list[Alert]:
    found = (output for output in outputs.outputs if isinstance(output, Alert))
    return [alert for alert in found if alert.key_space == key_space]


def test_a_rule_of_a_key_space_alerts_on_the_key() -> None:
    """By its name, at the event that made the rule hold, with who did it in the context."""
    outputs, _ = processed([share("u1", 0, asset_id="v"), share("u2", 5, asset_id="v")])
    (alert,) = alerts(outputs, "asset")
    assert (alert.rule_id, alert.key, alert.event_id) == ("crowd", "v", "u2-5")
    assert alert.time_ms == START_MS + 5_000
    assert [(c.column, c.value) for c in alert.evidence] == [("actors_1h", 2.0)]


def test_equal_keys_of_different_spaces_are_different_keys() -> None:
    """A device that is called like a video has visitors of its own."""
    mixed = [share("u1", 0, asset_id="x"), share("u2", 5, device_id="x")]
    outputs, stage = processed(mixed)
    assert not outputs.outputs
    assert len(stage.keys) == 2
    assert outputs.meetings is not None
    assert outputs.meetings.is_empty()
    both = [share("u1", 0, asset_id="x", device_id="x"), share("u2", 5, asset_id="x")]
    outputs, _ = processed(both)
    assert outputs.touched == {"asset": 2, "device": 1, "network": 0}
    assert outputs.meetings is not None
    assert outputs.meetings["space"].to_list() == [1]
    (alert,) = alerts(outputs, "asset")
    assert alert.evidence[0].value == 2.0


def test_a_trace_too_old_for_every_window_is_late_and_finds_nothing() -> None:
    """The same trace an hour later would have been the second user of the video."""
    old = share("u2", -2 * _HOUR_S, asset_id="v")
    outputs, _ = processed([share("u1", 0, asset_id="v"), old])
    assert outputs.late_traces == 1
    assert outputs.touched["asset"] == 1
    assert not outputs.outputs
    recent = share("u2", -_HOUR_S / 2, asset_id="v")
    outputs, _ = processed([share("u1", 0, asset_id="v"), recent])
    assert outputs.late_traces == 0
    assert [alert.event_id for alert in alerts(outputs, "asset")] == [recent["event_id"]]


def test_the_founder_of_a_key_is_known_by_name_when_the_second_comes() -> None:
    """Though that is in another batch, and the founder did other things since."""
    stage = SharedStage(_PACK, 1_000)
    processed([share("founder", 0, asset_id="v"), share("founder", 9, asset_id="w")], stage)
    outputs, _ = processed([share("second", 20, asset_id="v")], stage)
    assert outputs.meetings is not None
    assert outputs.meetings["founder_id"].to_list() == ["founder"]
    outputs, _ = processed([share("third", 30, asset_id="v")], stage)
    assert outputs.meetings is not None
    assert outputs.meetings["founder_id"].to_list() == [None]
    assert outputs.meetings["ordinal"].to_list() == [1]


def test_a_segment_that_surges_is_an_alert_about_the_segment() -> None:
    """An hour and a half of ten events a minute, then fifty times as many for a minute."""
    calm = [share(f"u{at % 7}", 6.0 * at) for at in range(10 * 90)]
    burst = [share(f"v{at % 9}", 5_400 + at / 10) for at in range(500)]
    after = [share(f"w{at % 5}", 5_460 + 6.0 * at) for at in range(10 * 5)]
    outputs, _ = processed([*calm, *burst, *after])
    (alert, *_) = alerts(outputs, "segment")
    assert (alert.rule_id, alert.key) == ("surge", "all")
    minute = (START_MS + 5_400_000) // 60_000
    # Judged when the minute and the time for late events and idle partitions are over.
    assert minute * 60_000 + 60_000 <= alert.time_ms <= minute * 60_000 + 240_000
    assert alert.event_id.startswith("segment:all:")
    quiet, _ = processed([*calm, *after])
    assert not alerts(quiet, "segment")


def test_a_network_is_the_same_however_its_address_is_written() -> None:
    """As the standard library reads it: short, in full, in capitals; and what is no address."""
    rng = random.Random(6)
    texts = []
    for _ in range(1_500):
        gap = rng.choice([0, 16, 48, 64, 80])
        zeros = ~(rng.choice([0, 0xFFFF, 2**32 - 1, 2**64 - 1]) << gap) & (2**128 - 1)
        address = ipaddress.IPv6Address(rng.getrandbits(128) & zeros)
        text = str(address)
        texts += [text, address.exploded, text.upper(), f"{text}0", f"{text}:"]
        octets = [str(rng.choice([0, 1, 9, 10, 99, 199, 249, 255, 256, "01"])) for _ in range(4)]
        texts += [".".join(octets), ".".join(octets[:3]), "::ffff:" + ".".join(octets)]
    events = [share(f"u{at}", at, ip=text) for at, text in enumerate(texts)]
    traces = traces_of(_PACK, [EventBatch.of(complete(pl.DataFrame(events)))], 20_000)
    networks = traces.filter(pl.col("space") == 3)
    wanted = [(f"u{at}", network_of(text)) for at, text in enumerate(texts)]
    assert networks.select("user_id", "key").rows() == [pair for pair in wanted if pair[1]]
    assert len(texts) // 4 < len(networks) < len(texts) * 3 // 4


def network_of(text: str) -> str | None:
    """The /24 or /48 of an address, None for what is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = 24 if address.version == 4 else 48
    return str(ipaddress.ip_network((address, bits), strict=False))


@pytest.mark.parametrize("batches", [1, 7])
def test_meetings_are_numbered_without_a_gap(batches: int) -> None:
    """That is how the next stage knows what it has had."""
    events = [share(f"u{at % 11}", 3 * at, asset_id=f"v{at % 5}") for at in range(70)]
    stage, ordinals = SharedStage(_PACK, 1_000), []
    for start in range(0, 70, 70 // batches):
        outputs, _ = processed(events[start : start + 70 // batches], stage)
        assert outputs.meetings is not None
        ordinals += outputs.meetings["ordinal"].to_list()
    assert ordinals == list(range(65))
    assert stage.met == 65
