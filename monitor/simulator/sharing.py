"""Shares: where videos go, and the provenance they carry on the way."""

from __future__ import annotations

from typing import Final

import numpy as np

from monitor.simulator.choices import choose, cumulative
from monitor.simulator.rows import Integers, Rows
from monitor.simulator.vocabulary import (
    C2PA_STATES,
    CHANNELS,
    DIGITAL_SOURCE_TYPES,
    VISIBILITIES,
    WATERMARKS,
    code_of,
)

__all__ = ["keep_provenance", "set_destination", "strip_provenance"]

_TRUSTED: Final = code_of("trusted", C2PA_STATES)
_VALID: Final = code_of("valid", C2PA_STATES)
_INVALID: Final = code_of("invalid", C2PA_STATES)
_MISSING: Final = code_of("missing", C2PA_STATES)
_STRIPPED: Final = code_of("stripped", C2PA_STATES)
_FEED: Final = code_of("feed", CHANNELS)
_LINK: Final = code_of("link", CHANNELS)
_EXTERNAL: Final = code_of("external", CHANNELS)

_PROVENANCE_STATES: Final = np.array([_TRUSTED, _VALID, _INVALID, _MISSING, _STRIPPED])
_PROVENANCE_SHARES: Final = cumulative(np.array([0.78, 0.185, 0.006, 0.026, 0.003]))
_WATERMARK_SHARES: Final = cumulative(np.array([0.985, 0.007, 0.008]))
_VISIBILITY_BY_CHANNEL: Final = cumulative(
    np.array(
        [
            [0.00, 0.05, 0.95],
            [0.85, 0.15, 0.00],
            [0.25, 0.50, 0.25],
            [0.05, 0.70, 0.25],
            [0.02, 0.18, 0.80],
        ]
    )
)


def set_destination(
    rng: np.random.Generator, rows: Rows, channels: Integers, targets: Integers
) -> None:
    """Fill in channel, target, link and visibility.

    ``targets`` are numbers of people, groups or sites; a share to the feed has none. Links and
    shares to other sites carry the address of the video.
    """
    rows["channel"] = channels
    rows["target"] = np.where(channels == _FEED, -1, targets)
    carries_link = (channels == _LINK) | (channels == _EXTERNAL)
    rows["link"] = np.where(carries_link, rows["asset"], -1)
    dice = rng.random(len(rows))
    table = _VISIBILITY_BY_CHANNEL[channels]
    rows["visibility"] = (dice[:, None] >= table[:, :-1]).sum(axis=1)
    assert len(VISIBILITIES) == table.shape[1]


def keep_provenance(rng: np.random.Generator, rows: Rows) -> None:
    """Provenance as it normally is: signed, watermarked, now and then lost in an edit."""
    count = len(rows)
    states = _PROVENANCE_STATES[choose(rng, _PROVENANCE_SHARES, count)]
    rows["c2pa_state"] = states
    rows["c2pa_present"] = (states != _MISSING) & (states != _STRIPPED)
    is_composite = rng.random(count) < 0.12
    rows["source_type"] = np.where(rows["c2pa_present"] == 1, is_composite, -1)
    rows["watermark"] = choose(rng, _WATERMARK_SHARES, count)
    assert len(DIGITAL_SOURCE_TYPES) == 2


def strip_provenance(rng: np.random.Generator, rows: Rows, thoroughness: float) -> None:
    """Provenance taken off on purpose in a share ``thoroughness`` (0 to 1) of the rows."""
    keep_provenance(rng, rows)
    count = len(rows)
    stripped = rng.random(count) < thoroughness
    states = np.where(rng.random(count) < 0.75, _STRIPPED, _MISSING)
    rows["c2pa_state"][stripped] = states[stripped]
    rows["c2pa_present"][stripped] = 0
    rows["source_type"][stripped] = -1
    damage = np.where(
        rng.random(count) < 0.6, code_of("missing", WATERMARKS), code_of("damaged", WATERMARKS)
    )
    rows["watermark"][stripped] = damage[stripped]
