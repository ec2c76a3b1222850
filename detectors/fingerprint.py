"""Fingerprints of prompts, for producers: the text itself never needs to leave them.

Two values say what detection needs to know. ``prompt_fingerprint`` is equal for prompts that differ
only in case, width, spacing or punctuation. ``prompt_signature`` is close for prompts
that share most of their wording, as templates with a changed name do.
Both are the same on every machine and in every version; a change would get another prefix.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import unicodedata
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = [
    "SIGNATURE_VALUES",
    "normalise_prompt",
    "prompt_fingerprint",
    "prompt_signature",
    "signature_similarity",
    "signature_values",
]

SIGNATURE_VALUES: Final = 32
"""MinHash values in a signature, 16 bits each."""

_SHINGLE_CHARACTERS: Final = 5
_MAX_CHARACTERS: Final = 8_192


def _permutations() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """The 32 hash permutations (odd multipliers and offsets), fixed for ever."""
    drawn = hashlib.shake_256(b"floodwatch prompt signature 1").digest(16 * SIGNATURE_VALUES)
    numbers = np.frombuffer(drawn, dtype="<u8").reshape(2, SIGNATURE_VALUES).astype(np.uint64)
    return numbers[0] | np.uint64(1), numbers[1]


_MULTIPLIERS, _OFFSETS = _permutations()


def normalise_prompt(text: str) -> str:
    """Compatibility-composed, case-folded words, one space between (of 8,192 characters)."""
    folded = unicodedata.normalize("NFKC", text[:_MAX_CHARACTERS]).casefold()
    spaced = "".join(character if character.isalnum() else " " for character in folded)
    return " ".join(spaced.split())


def prompt_fingerprint(text: str) -> str:
    """128 bits of BLAKE2b over the normalised prompt, hexadecimal (32 characters)."""
    return hashlib.blake2b(normalise_prompt(text).encode(), digest_size=16).hexdigest()


def prompt_signature(text: str) -> str:
    """MinHash over 5-character shingles, base64url without padding (86 characters).

    The share of equal values of two signatures estimates the Jaccard similarity of their shingle
    sets with a standard error of at most 0.09 (Broder 1997; Li & König 2010 for the 16 bits).
    """
    normal = normalise_prompt(text)
    count = max(1, len(normal) - _SHINGLE_CHARACTERS + 1)
    shingles = {normal[i : i + _SHINGLE_CHARACTERS] for i in range(count)}
    digests = b"".join(
        hashlib.blake2b(shingle.encode(), digest_size=8).digest() for shingle in sorted(shingles)
    )
    hashes = np.frombuffer(digests, dtype="<u8").astype(np.uint64)
    permuted = hashes[:, None] * _MULTIPLIERS + _OFFSETS
    # The high bits of a product mix best; of the smallest its next 16 are as good as random.
    smallest = (permuted >> np.uint64(16)).min(axis=0).astype("<u2")
    return base64.urlsafe_b64encode(smallest.tobytes()).decode().rstrip("=")


def signature_values(signature: str) -> npt.NDArray[np.uint16]:
    """The 32 values of a signature, shape (32,).

    Raises:
        ValueError: not a signature.
    """
    try:
        data = base64.b64decode(signature + "==", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not a prompt signature: {signature[:24]!r} ({error})") from error
    if len(data) != 2 * SIGNATURE_VALUES:
        raise ValueError(
            f"not a prompt signature: {len(data)} bytes, {2 * SIGNATURE_VALUES} are wanted"
        )
    return np.frombuffer(data, dtype="<u2").astype(np.uint16)


def signature_similarity(left: str, right: str) -> float:
    """The estimated Jaccard similarity of two prompts by their signatures, 0 to 1."""
    return float(np.mean(signature_values(left) == signature_values(right)))
