"""Answers of the group's coordinator about committed offsets, with all of their errors.

aiokafka looks at the error of each partition, not at that of the whole answer. A coordinator that
is about to stop (error 16) names no partition at all, and aiokafka takes that for "nothing is
committed": the worker would begin with empty state and commit that. Only the reading of the
answer is changed here; aiokafka tries again as it does for other errors.
"""

from __future__ import annotations

from typing import Any, Final

from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest

__all__ = ["install"]

_ELSEWHERE: Final = (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError)


def install(coordinator: Any) -> None:
    """Have a ``GroupCoordinator`` raise the error of an answer as a whole."""
    send = coordinator._send_req

    async def send_and_check(request: Any) -> Any:
        response = await send(request)
        if isinstance(request, OffsetFetchRequest):
            error = _error_of(response)
            if isinstance(error, _ELSEWHERE):
                coordinator.coordinator_dead()
            if error is not None:
                raise error
        return response

    coordinator._send_req = send_and_check


def _error_of(response: Any) -> KafkaError | None:
    """The error of the whole answer; versions 0 and 1 have none."""
    code = getattr(response, "error_code", 0)
    if not code:
        return None
    error: KafkaError = for_code(code)("the group's coordinator, asked for committed offsets")
    return error
