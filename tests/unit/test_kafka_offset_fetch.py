"""What the coordinator says as a whole counts as well as what it says of each partition."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import GroupAuthorizationFailedError
from aiokafka.protocol.commit import OffsetFetchResponse_v3
from aiokafka.structs import OffsetAndMetadata, TopicPartition

from monitor.kafka import offset_fetch

_TP = TopicPartition("generation-events", 0)
_FOUND = OffsetFetchResponse_v3(0, [("generation-events", [(0, 43_368, "ours", 0)])], 0)


class _Coordinator:
    """What ``GroupCoordinator.fetch_committed_offsets`` needs; answers with ``responses``."""

    fetch_committed_offsets = GroupCoordinator.fetch_committed_offsets
    _do_fetch_commit_offsets = GroupCoordinator._do_fetch_commit_offsets
    group_id = "floodwatch"
    _retry_backoff_ms = 1

    def __init__(self, *responses: object) -> None:
        self._client = SimpleNamespace()
        self._responses = list(responses)
        self.deaths = 0

    async def ensure_coordinator_known(self) -> None:
        """It is always known."""

    async def _send_req(self, _request: object) -> object:
        return self._responses.pop(0)

    def coordinator_dead(self) -> None:
        self.deaths += 1


def _answer(code: int) -> object:
    """The whole answer is an error, as when the coordinator stops: no partition is named."""
    return OffsetFetchResponse_v3(0, [], code)


def _fetch(coordinator: _Coordinator) -> object:
    return asyncio.run(coordinator.fetch_committed_offsets([_TP]))


def test_aiokafka_alone_takes_an_error_for_nothing_committed() -> None:
    """When this fails, aiokafka has mended it, and ``offset_fetch`` can go."""
    assert _fetch(_Coordinator(_answer(16), _FOUND)) == {}


@pytest.mark.parametrize(("code", "deaths"), [(14, 0), (15, 1), (16, 1)])
def test_the_question_is_asked_again(code: int, deaths: int) -> None:
    coordinator = _Coordinator(_answer(code), _answer(code), _FOUND)
    offset_fetch.install(coordinator)
    assert _fetch(coordinator) == {_TP: OffsetAndMetadata(43_368, "ours")}
    assert coordinator.deaths == 2 * deaths


def test_what_will_not_pass_is_raised() -> None:
    coordinator = _Coordinator(_answer(30))
    offset_fetch.install(coordinator)
    with pytest.raises(GroupAuthorizationFailedError, match="committed offsets"):
        _fetch(coordinator)


def test_nothing_committed_stays_nothing() -> None:
    coordinator = _Coordinator(
        OffsetFetchResponse_v3(0, [("generation-events", [(0, -1, "", 0)])], 0)
    )
    offset_fetch.install(coordinator)
    assert _fetch(coordinator) == {}
