"""What is to be stored, as bytes: made once where it is at hand, taken apart by the database.

Rows are not built in Python. A batch goes to the database as one JSON text and becomes rows
there, so that storing costs the process that detects little more than encoding its outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from detectors.incidents import Alert, Decision, IncidentUpdate, Output

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Entry", "EntryKind", "as_entries", "batch_text", "read_entry"]

EntryKind: TypeAlias = Literal["alert", "incident", "decision"]

_KINDS: Final[Mapping[type, EntryKind]] = {
    Alert: "alert",
    IncidentUpdate: "incident",
    Decision: "decision",
}
_NUL: Final = b"\\u0000"
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"


class _Alert(msgspec.Struct, gc=False):
    """What an alert must have for its row; the rest is kept, whatever version wrote it."""

    alert_id: str
    incident_id: str
    rule_id: str
    rule_version: str
    title: str
    severity: str
    mode: str
    key_space: str
    key: str
    time_ms: int
    event_id: str
    summary: str


class _Incident(msgspec.Struct, gc=False):
    incident_id: str
    state: str
    rule_id: str
    rule_version: str
    title: str
    severity: str
    mode: str
    key_space: str
    key: str
    opened_ms: int
    last_finding_ms: int
    time_ms: int
    alerts: int
    findings: int


class _Decision(msgspec.Struct, gc=False):
    decision_id: str
    user_id: str
    kind: str
    scope: str
    reason: str
    time_ms: int
    expires_ms: int
    alert_id: str | None = None


_SHAPES: Final[Mapping[EntryKind, type]] = {
    "alert": _Alert,
    "incident": _Incident,
    "decision": _Decision,
}


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An output: its kind, its id, and itself as a JSON object.

    Of two updates of an incident, the one with the larger ``order`` is the newer.
    """

    kind: EntryKind
    id: str
    data: msgspec.Raw
    order: tuple[bool, int] = (False, 0)


def as_entries(outputs: Iterable[Output]) -> list[Entry]:
    """The outputs, encoded."""
    encode = msgspec.json.encode
    return [_entry(_KINDS[type(one)], one, msgspec.Raw(encode(one))) for one in outputs]


def read_entry(kind: EntryKind, data: msgspec.Raw) -> Entry:
    """An entry of bytes from elsewhere; what this program does not know of them is kept.

    Raises:
        msgspec.MsgspecError: they lack what a row of such an output needs.
    """
    return _entry(kind, msgspec.json.decode(data, type=_SHAPES[kind]), data)


def batch_text(entries: Sequence[Entry]) -> str:
    """A JSON array of the entries. NUL characters, which PostgreSQL refuses, are replaced."""
    joined = b"[%b]" % b",".join(entry.data for entry in entries)
    if _NUL in joined:
        joined = msgspec.json.encode(_without_nul(msgspec.json.decode(joined)))
    return joined.decode()


def _entry(kind: EntryKind, output: object, data: msgspec.Raw) -> Entry:
    if isinstance(output, IncidentUpdate | _Incident):
        order = (output.state == "closed", output.findings)
        return Entry(kind, output.incident_id, data, order)
    if isinstance(output, Alert | _Alert):
        return Entry(kind, output.alert_id, data)
    assert isinstance(output, Decision | _Decision)
    return Entry(kind, output.decision_id, data)


def _without_nul(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, str):
        return value.replace("\0", _REPLACEMENT)
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(name): _without_nul(item) for name, item in value.items()}
    return value
