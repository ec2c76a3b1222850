"""The published JSON Schema of events, generated from the wire structs.

``python -m monitor.wire.json_schema FOLDER`` writes ``event.schema.json`` there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from detectors.events import (
    COLUMNS,
    EVENT_TYPES,
    FEEDBACK_TYPES,
    GENERATION_TYPES,
    MAX_TIME_MS,
    MIN_TIME_MS,
    SCHEMA_VERSION,
    SHARE_TYPES,
)
from monitor.wire.schema import Event

__all__ = ["event_json_schema", "write_schema"]


def event_json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one event: what the decoder accepts, bounds included."""
    schema = msgspec.json.schema(Event)
    definitions: dict[str, Any] = schema["$defs"]
    envelope = definitions["Event"]
    properties = envelope["properties"]
    properties["type"]["enum"] = list(EVENT_TYPES)
    properties["time"] |= {"minimum": MIN_TIME_MS, "maximum": MAX_TIME_MS}
    properties["schema_version"]["const"] = SCHEMA_VERSION
    for name in ("event_id", "user_id"):
        properties[name]["minLength"] = 1
    for column in COLUMNS:
        *folders, name = column.path.split(".")
        owner = folders[-1].capitalize() if folders else "Event"
        field = definitions[owner]["properties"].get(name)
        if field is not None and "string" in json.dumps(field):
            _bound(field, column.max_bytes)
    envelope["allOf"] = [
        {
            "if": {"properties": {"type": {"enum": list(types)}}},
            "then": {"required": [body], "properties": {body: {"$ref": f"#/$defs/{owner}"}}},
        }
        for types, body, owner in (
            (GENERATION_TYPES, "generation", "Generation"),
            (SHARE_TYPES, "share", "Share"),
            (FEEDBACK_TYPES, "feedback", "Feedback"),
        )
    ]
    definitions["Feedback"]["required"] = ["subject_user_id"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:floodwatch:event:v{SCHEMA_VERSION}",
        "title": "Floodwatch event",
        **schema,
    }


def _bound(field: dict[str, Any], max_bytes: int) -> None:
    """Set maxLength on the string of a field that may also be null."""
    for option in field.get("anyOf", [field]):
        if option.get("type") == "string":
            option["maxLength"] = max_bytes


def write_schema(folder: Path) -> Path:
    """Write ``event.schema.json`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "event.schema.json"
    path.write_text(json.dumps(event_json_schema(), indent=2) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    write_schema(Path(sys.argv[1]))
