"""The state of a stage: taken as blocks, given back by meaning. ``blocks`` tells how.

- ``blocks``: what a snapshot is, and what every stage promises (``Stateful``);
- ``stage``: the state of a stage, put together of rows, incidents and the rest;
- ``rows`` and ``row_restore``: what is kept for each key; ``fields`` and ``feature_fields`` say
  what the columns of the row arrays mean, so that another pack takes over what it still keeps;
- ``incidents`` and ``places``: open incidents, each in a place of its own.
"""

from __future__ import annotations

from detectors.state.blocks import (
    DEFAULT_BLOCK_ROWS,
    Array,
    Layout,
    Restored,
    Snapshot,
    StateBlock,
    Stateful,
    json_array,
    json_value,
    state_digest,
)

__all__ = [
    "DEFAULT_BLOCK_ROWS",
    "Array",
    "Layout",
    "Restored",
    "Snapshot",
    "StateBlock",
    "Stateful",
    "json_array",
    "json_value",
    "state_digest",
]
