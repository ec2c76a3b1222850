"""Blocks and manifests as bytes.

A block is a line of JSON that names its arrays with their types and shapes, then the arrays
themselves, one after the other; all of it compressed with zstd. A manifest is JSON. It names the
blocks of a checkpoint with their checksums, so a block that is missing, torn or another one's
cannot be taken for the right one. A block that is too large for a message is stored in pieces.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
import numpy as np
import zstandard

from detectors.state import StateBlock
from monitor.checkpoint.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BlockEntry",
    "Manifest",
    "block_items",
    "block_keys",
    "checkpoint_id",
    "checksum",
    "decode_block",
    "decode_manifest",
    "encode_block",
    "encode_manifest",
    "generation_of",
    "manifest_key",
]

_FORMAT: Final = 1
_LEVEL: Final = 1
_MANIFEST: Final = "manifest"

ArrayHeader: TypeAlias = tuple[str, str, tuple[int, ...]]


class BlockEntry(msgspec.Struct, frozen=True, array_like=True):
    """Where a block is: the checkpoint that wrote it, its checksum, the keys it takes."""

    written_by: str
    checksum: str
    pieces: int = 1


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint: where in the log it stands, and the blocks that make it up.

    ``merged_ms`` is how far each source had come in event time, ``layout`` what the stage says
    of its arrays.
    """

    format: int = _FORMAT
    checkpoint: str
    pack_version: str
    position: dict[str, int]
    merged_ms: dict[str, int]
    layout: dict[str, Any]
    blocks: dict[str, BlockEntry]


def block_keys(partition: int, block: str, entry: BlockEntry) -> list[str]:
    """The changelog keys of a block's pieces; each is written once and never again."""
    key = _key(partition, entry.written_by, block)
    return [key, *(f"{key}~{number}" for number in range(1, entry.pieces))]


def block_items(
    partition: int, checkpoint: str, block: str, data: bytes, piece_bytes: int
) -> tuple[BlockEntry, dict[str, bytes]]:
    """What a manifest says of a block that ``checkpoint`` wrote, and its pieces by key."""
    starts = range(0, len(data), piece_bytes)
    entry = BlockEntry(checkpoint, checksum(data), len(starts))
    pieces = (data[start : start + piece_bytes] for start in starts)
    return entry, dict(zip(block_keys(partition, block, entry), pieces, strict=True))


def manifest_key(partition: int, checkpoint: str) -> str:
    """The changelog key of a manifest."""
    return _key(partition, checkpoint, _MANIFEST)


def checkpoint_id(generation: int, writer: str, sequence: int) -> str:
    """A name that nobody else gives: of the group's generation, the writer, and its count."""
    return f"{generation}-{writer}-{sequence}"


def generation_of(checkpoint: str) -> int:
    """The generation in which a checkpoint was written."""
    return int(checkpoint.partition("-")[0])


def checksum(data: bytes) -> str:
    """Of a block as it is stored."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def encode_block(block: StateBlock) -> bytes:
    """A block as it is stored. Takes a compressor's time; callable from any thread."""
    headers = [(name, array.dtype.str, array.shape) for name, array in block.arrays.items()]
    parts = [msgspec.json.encode(headers), b"\n"]
    parts += [np.ascontiguousarray(array).tobytes() for array in block.arrays.values()]
    return zstandard.ZstdCompressor(level=_LEVEL).compress(b"".join(parts))


def decode_block(name: str, data: bytes) -> StateBlock:
    """Read what ``encode_block`` gave. Raises CheckpointError."""
    try:
        header, _, body = zstandard.ZstdDecompressor().decompress(data).partition(b"\n")
        headers = msgspec.json.decode(header, type=list[ArrayHeader])
        arrays: dict[str, np.ndarray] = {}
        start = 0
        for array_name, dtype, shape in headers:
            kind = np.dtype(dtype)
            count = int(np.prod(shape, dtype=np.int64))
            arrays[array_name] = np.frombuffer(body, kind, count, start).reshape(shape)
            start += count * kind.itemsize
    except (zstandard.ZstdError, msgspec.MsgspecError, ValueError, TypeError) as error:
        raise CheckpointError(f"block {name} cannot be read: {error}") from error
    if start != len(body):
        raise CheckpointError(f"block {name}: {len(body) - start} bytes too many")
    return StateBlock(name, arrays)


def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest as it is stored."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(msgspec.json.encode(manifest))


def decode_manifest(checkpoint: str, data: bytes) -> Manifest:
    """Read what ``encode_manifest`` gave; refuses what a newer version wrote."""
    try:
        text = zstandard.ZstdDecompressor().decompress(data)
        found: Mapping[str, Any] = msgspec.json.decode(text)
        written = found.get("format")
        if written != _FORMAT:
            raise CheckpointError(
                f"checkpoint {checkpoint} has format {written}, this version reads {_FORMAT}; "
                "run the version that wrote it, or a newer one"
            )
        return msgspec.convert(found, Manifest)
    except (zstandard.ZstdError, msgspec.MsgspecError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {checkpoint}: bad manifest: {error}") from error


def _key(partition: int, checkpoint: str, name: str) -> str:
    return f"{partition}/{checkpoint}/{name}"
