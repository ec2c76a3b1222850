"""Traces: who touched which shared key when, made of a user's events and sent to the key's stage.

Rows of a trace frame::

    ordinal   which trace of its partition this is (int64), counted since the state began
    order_ms  the newest event time of the partition until then (int64, ascending)
    space     0: a count of a segment; n: the n-th shared key of the pack (uint8)
    key       the key, or the segment's name
    count     1, or the events of a segment in the minute that begins at ``time_ms`` (int64)

and the columns of the event that the pack's shared features and rules read (``payload``).
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from detectors.expressions import evaluate
from detectors.fingerprint import SIGNATURE_VALUES
from detectors.keys import hash_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from detectors.shared import CompiledSegment, CompiledShared, SharedKey
    from detectors.volume import VolumeSettings

__all__ = ["SEGMENTS", "SegmentTally", "Tracer", "trace_schema"]

SEGMENTS: Final = 0
"""The ``space`` of counts of segments."""

_OWN_SCHEMA: Final = {
    "order_ms": pl.Int64(),
    "space": pl.UInt8(),
    "key": pl.String(),
    "count": pl.Int64(),
}
_BANDS: Final = 4
_VALUES_OF_A_BAND: Final = 4
_SIGNATURE_CHARACTERS: Final = 86
_NETWORK_BITS: Final = {4: 24, 6: 48}
_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_PLAIN_4: Final = rf"^({_OCTET}\.{_OCTET}\.{_OCTET})\.{_OCTET}$"
_GROUP: Final = "[0-9a-f]{1,4}"
_AFTER_THREE: Final = "|".join(
    [f"(?::{_GROUP}){{5}}"]
    + [f"(?::{_GROUP}){{{n}}}::(?:{_GROUP}(?::{_GROUP}){{0,{3 - n}}})?" for n in range(4)]
    + [f"(?::{_GROUP}){{4}}::"]
)
_PLAIN_6: Final = rf"^((?:[1-9a-f][0-9a-f]{{0,3}}:){{2}}[1-9a-f][0-9a-f]{{0,3}})(?:{_AFTER_THREE})$"
"""Addresses whose first three groups stand in their network as they are."""
_HEX: Final = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_COUNTED: Final = {**_OWN_SCHEMA, "time_ms": pl.Int64()}
_NOTHING: Final = pl.DataFrame(schema=_COUNTED)
_SPREAD: Final = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], dtype=np.uint64)

Flags: TypeAlias = npt.NDArray[np.bool_]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Int64s: TypeAlias = npt.NDArray[np.int64]


def trace_schema(shared: CompiledShared) -> dict[str, pl.DataType]:
    """The columns of a frame of traces, in order."""
    return {"ordinal": pl.Int64(), **_OWN_SCHEMA, **shared.payload}


class Tracer:
    """Makes the traces of the events of one partition, and the counts of their segments."""

    def __init__(self, shared: CompiledShared, volume: VolumeSettings) -> None:
        self.segments = SegmentTally(shared.segments, volume)
        self.spaces = tuple(key.spec.name for key in shared.keys)
        self.made = 0
        self._keys = shared.keys
        self._payload = list(shared.payload)
        of_keys = [key.where.expr & (pl.col(key.spec.column) != "") for key in shared.keys]
        masks = [*of_keys, *(part.where.expr for part in shared.segments)]
        self._masks = [
            mask.fill_null(value=False).alias(f"m{index}") for index, mask in enumerate(masks)
        ]

    def traces(
        self,
        frame: pl.DataFrame,
        eligible: Flags,
        watermarks: Int64s,
        newest_ms: int,
    ) -> pl.DataFrame:
        """The traces of n events, in order; ``watermarks`` (n,) are the newest times until each.

        ``newest_ms`` is that before the first. An event that is not ``eligible`` (n,) leaves none.
        """
        # All in one query: it costs more to ask than to answer.
        selected = evaluate(frame, self._masks)
        masks = [mask.to_numpy() & eligible for mask in selected.get_columns()]
        positions, spaces, keys = self._touched(frame, masks)
        counted_at, counted = self.segments.add(
            frame, masks[len(self._keys) :], watermarks, newest_ms
        )
        traced = pl.DataFrame(
            {
                "order_ms": watermarks[positions],
                "space": spaces,
                "key": keys,
                "count": np.ones(len(positions), dtype=np.int64),
            },
            schema=_OWN_SCHEMA,
        ).hstack(frame[self._payload][positions])
        if len(counted):
            # At one event, what was counted before it goes first.
            order = np.argsort(np.concatenate((counted_at, positions)), kind="stable")
            traced = pl.concat([counted, traced], how="diagonal")[list(traced.columns)][order]
        ordinals = pl.Series("ordinal", np.arange(self.made, self.made + len(traced)))
        self.made += len(traced)
        return traced.insert_column(0, ordinals)

    def state(self) -> dict[str, Any]:
        """The state, as JSON can hold it."""
        return {"made": self.made, "segments": self.segments.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self.made = state["made"]
        self.segments.restore(state["segments"])

    def _touched(
        self, frame: pl.DataFrame, masks: Sequence[Flags]
    ) -> tuple[Int64s, npt.NDArray[np.uint8], pl.Series]:
        """Of each trace: the position of its event, its key space and its key."""
        positions: list[Int64s] = [np.zeros(0, dtype=np.int64)]
        spaces: list[npt.NDArray[np.uint8]] = [np.zeros(0, dtype=np.uint8)]
        keys = [pl.Series("key", [], dtype=pl.String)]
        for index, key in enumerate(self._keys):
            at = np.flatnonzero(masks[index])
            if not len(at):
                continue
            at, made = _made(key, at, frame[key.spec.column][at])
            positions.append(at)
            spaces.append(np.full(len(at), index + 1, dtype=np.uint8))
            keys.append(made)
        joined, codes = np.concatenate(positions), np.concatenate(spaces)
        order = np.lexsort((codes, joined))
        return joined[order], codes[order], pl.concat(keys)[order]


def _made(key: SharedKey, at: Int64s, values: pl.Series) -> tuple[Int64s, pl.Series]:
    """Keys of the events ``at``; what has no key in this form is left out."""
    if key.spec.form == "bands":
        return _bands(at, values)
    if key.spec.form == "network":
        values = _networks(values)
        there = values.is_not_null().to_numpy()
        at, values = at[there], values.filter(there)
    return at, values.alias("key")


def _networks(addresses: pl.Series) -> pl.Series:
    """The /24 of IPv4 addresses and the /48 of IPv6 ones; null for what is no address.

    Text is enough for nearly all of them; what is written otherwise is looked at one by one, which
    takes a hundred times as long.
    """
    plain_4 = addresses.str.extract(_PLAIN_4) + ".0/24"
    networks = plain_4.fill_null(addresses.str.extract(_PLAIN_6) + "::/48")
    odd = np.flatnonzero(networks.is_null().to_numpy())
    if not len(odd):
        return networks
    parsed = pl.Series([_network(address) for address in addresses[odd].to_list()], dtype=pl.String)
    return networks.scatter(odd, parsed)


def _network(address: str) -> str | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return str(ipaddress.ip_network((parsed, _NETWORK_BITS[parsed.version]), strict=False))


def _bands(at: Int64s, signatures: pl.Series) -> tuple[Int64s, pl.Series]:
    """Bands of signatures: of two with Jaccard similarity s, one is shared by 1 - (1 - s^4)^4.

    What is no signature has no bands. Source: Leskovec, Rajaraman and Ullman 2020, "Mining of
    massive datasets", 3.4, http://www.mmds.org (locality-sensitive hashing of MinHash signatures).
    """
    binary = (
        signatures.str.replace_all("-", "+", literal=True).str.replace_all("_", "/", literal=True)
        + "=="
    ).str.decode("base64", strict=False)
    whole = (
        (signatures.str.len_bytes() == _SIGNATURE_CHARACTERS) & binary.is_not_null()
    ).to_numpy()
    at, binary = at[whole], binary.filter(whole)
    values = np.frombuffer(b"".join(binary.to_list()), dtype="<u2").reshape(-1, SIGNATURE_VALUES)
    used = values[:, : _BANDS * _VALUES_OF_A_BAND].reshape(-1, _BANDS, _VALUES_OF_A_BAND)
    words = np.ascontiguousarray(used).view(np.uint64)[:, :, 0]
    # BAND:WORD, the word as 16 digits, written by columns.
    digits = words.astype(">u8").reshape(-1, 1).view(np.uint8)
    texts = np.empty((len(digits), 18), dtype=np.uint8)
    texts[:, 0], texts[:, 1] = _HEX[np.arange(len(digits)) % _BANDS], ord(":")
    texts[:, 2::2], texts[:, 3::2] = _HEX[digits >> 4], _HEX[digits & 15]
    keys = pl.Series("key", texts.view("S18")[:, 0]).cast(pl.String)
    return np.repeat(at, _BANDS), keys


class SegmentTally:
    """Counts of segments in a partition, given out when a minute is over and late ones are in.

    Minutes are over by event time, as the partition sees it: at the same event however its log is
    cut. An event of a minute that was given out before is given out at once, by itself.
    """

    def __init__(self, segments: Sequence[CompiledSegment], settings: VolumeSettings) -> None:
        self._segments = tuple(segments)
        self._columns = list({part.column for part in segments if part.column is not None})
        self._settings = settings
        self._open: Counter[tuple[int, str]] = Counter()

    def add(
        self,
        frame: pl.DataFrame,
        masks: Sequence[Flags],
        watermarks: Int64s,
        newest_ms: int,
    ) -> tuple[Int64s, pl.DataFrame]:
        """Count n events; returns the counts given out: at which of them (m,), as m traces.

        ``masks`` (n,) tell for each segment which events are of it.
        """
        bucket_ms, late_ms = self._settings.bucket_ms, self._settings.late_ms
        n = len(frame)
        first_open = (watermarks - late_ms) // bucket_ms
        buckets = frame["time_ms"].to_numpy() // bucket_ms
        # Where it is given out: at once if it is late, else at the first event beyond its minute.
        at = np.maximum(np.searchsorted(first_open, buckets, side="right"), np.arange(n))
        given: Counter[tuple[int, int, str]] = Counter()
        for bucket, key in [entry for entry in self._open if entry[0] < first_open[-1]]:
            out_at = int(np.searchsorted(first_open, bucket, side="right"))
            given[out_at, bucket, key] += self._open.pop((bucket, key))
        hashed = hash_columns(frame[self._columns])
        hashes = dict(zip(self._columns, hashed, strict=True))
        spread = buckets.astype(np.uint64) * _SPREAD[0] ^ at.astype(np.uint64) * _SPREAD[1]
        for part, mask in zip(self._segments, masks, strict=True):
            which = np.flatnonzero(mask)
            if part.column is None:
                groups = _groups(part.name, spread, which)
            else:
                values = frame[part.column]
                groups = _groups_of_values(part.name, values, hashes[part.column], spread, which)
            for first, key, count in groups:
                if at[first] < n:
                    given[int(at[first]), int(buckets[first]), key] += count
                else:
                    self._open[int(buckets[first]), key] += count
        if not given:
            return np.zeros(0, dtype=np.int64), _NOTHING
        ordered = sorted(given)
        given_at = np.array([at for at, _, _ in ordered], dtype=np.int64)
        out_buckets = np.array([bucket for _, bucket, _ in ordered], dtype=np.int64)
        before_ms = np.concatenate(([newest_ms], watermarks))[given_at]
        return given_at, pl.DataFrame(
            {
                # As soon as it was over, though nothing happened then.
                "order_ms": np.maximum((out_buckets + 1) * bucket_ms + late_ms, before_ms),
                "space": np.full(len(ordered), SEGMENTS, dtype=np.uint8),
                "key": [key for _, _, key in ordered],
                "count": [given[entry] for entry in ordered],
                "time_ms": out_buckets * bucket_ms,
            },
            schema=_COUNTED,
        )

    def state(self) -> list[list[Any]]:
        """Counts of minutes that are not over, as JSON can hold it."""
        return [[bucket, key, count] for (bucket, key), count in sorted(self._open.items())]

    def restore(self, state: Sequence[Sequence[Any]]) -> None:
        """Go on from a state."""
        self._open = Counter({(bucket, key): count for bucket, key, count in state})


def _groups(name: str, codes: Hashes, which: Int64s) -> Iterator[tuple[int, str, int]]:
    """Of each different code of the events ``which``: the first event, ``name``, how many."""
    _, first, counts = np.unique(codes[which], return_index=True, return_counts=True)
    for position, count in zip(which[first].tolist(), counts.tolist(), strict=True):
        yield position, name, count


def _groups_of_values(
    name: str, values: pl.Series, hashes: Hashes, codes: Hashes, which: Int64s
) -> Iterator[tuple[int, str, int]]:
    """The same by code and value, named ``NAME=VALUE``; what has no value is left out."""
    there = which[hashes[which] != 0]
    for position, _, count in _groups(name, codes ^ hashes, there):
        yield position, f"{name}={values[position]}", count
