"""Identifiers, addresses and prompt signatures made from numbers, whole columns at a time.

Everything is a pure function of (seed, number), so nothing has to be remembered: the same number
is the same user, device or prompt wherever it comes up. Addresses are taken from ranges that
belong to nobody: 240.0.0.0/4 (reserved) and 2001:db8::/32 (documentation, RFC 3849).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias
from zlib import crc32

import numpy as np
import polars as pl
from numpy.typing import NDArray

from monitor.simulator.rows import Integers

__all__ = ["ADDRESS_V6", "Identifiers", "mix", "text_column"]

Words: TypeAlias = NDArray[np.uint64]
Bytes: TypeAlias = NDArray[np.uint8]

ADDRESS_V6: Final = 1 << 61
"""Set in an address number: the address is an IPv6 one."""

_ID_BITS: Final = 60
_ID_MASK: Final = np.uint64((1 << _ID_BITS) - 1)
_SIGNATURE_VALUES: Final = 32
_BASE32: Final = b"0123456789abcdefghjkmnpqrstvwxyz"
_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_HEX: Final = b"0123456789abcdef"


def _pairs(alphabet: bytes) -> NDArray[np.uint16]:
    """Every pair of letters, so that two are written with one look-up."""
    letters = np.frombuffer(alphabet, dtype=np.uint8)
    size = len(letters)
    pairs = np.empty((size * size, 2), dtype=np.uint8)
    pairs[:, 0] = np.repeat(letters, size)
    pairs[:, 1] = np.tile(letters, size)
    return pairs.view(np.uint16).ravel()


_BASE32_PAIRS: Final = _pairs(_BASE32)
_BASE64_PAIRS: Final = _pairs(_BASE64)
_HEX_PAIRS: Final = _pairs(_HEX)


def mix(values: Words) -> Words:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit depends on every bit."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def text_column(letters: Bytes) -> pl.Series:
    """A string column out of one row of ASCII bytes per string, all of the same length."""
    return pl.Series(letters).arr.to_list().cast(pl.Binary).cast(pl.String)


def _as_words(numbers: Integers) -> Words:
    return np.ascontiguousarray(numbers, dtype=np.int64).view(np.uint64)


@dataclass(frozen=True, slots=True)
class Identifiers:
    """Makes the identifiers of one simulation; other seeds give other identifiers."""

    seed: int

    def _salt(self, purpose: str) -> np.uint64:
        words = np.array([self.seed & (2**63 - 1), crc32(purpose.encode())], dtype=np.uint64)
        return np.uint64(mix(mix(words[:1]) ^ words[1:])[0])

    def named(self, prefix: str, numbers: Integers) -> pl.Series:
        """``prefix`` and twelve letters: one-to-one for numbers from 0 to 2**60 - 1."""
        values = (_as_words(numbers) ^ self._salt(prefix)) & _ID_MASK
        values = (values * np.uint64(0x9E3779B97F4A7C15)) & _ID_MASK
        values ^= values >> np.uint64(31)
        values = (values * np.uint64(0xBF58476D1CE4E5B9)) & _ID_MASK
        values ^= values >> np.uint64(29)
        start = len(prefix)
        letters = np.empty((len(values), start + 12), dtype=np.uint8)
        letters[:, :start] = np.frombuffer(prefix.encode("ascii"), dtype=np.uint8)
        pairs = np.empty((len(values), 6), dtype=np.uint16)
        for position in range(6):
            pairs[:, position] = _BASE32_PAIRS[
                (values >> np.uint64(10 * position)) & np.uint64(1023)
            ]
        letters[:, start:] = pairs.view(np.uint8)
        return text_column(letters)

    def hashes(self, purpose: str, numbers: Integers) -> pl.Series:
        """Sixteen hexadecimal digits for each number."""
        return text_column(self._hex_digits(mix(_as_words(numbers) ^ self._salt(purpose))))

    def addresses(self, numbers: Integers) -> pl.Series:
        """IPv4 addresses; IPv6 ones where the number has ``ADDRESS_V6`` set."""
        values = mix(_as_words(numbers) ^ self._salt("address"))
        is_v6 = (numbers & ADDRESS_V6) != 0
        texts = pl.concat([_v4_texts(values[~is_v6]), _v6_texts(values[is_v6])])
        places = np.where(is_v6, (~is_v6).sum() + np.cumsum(is_v6), np.cumsum(~is_v6)) - 1
        return texts.gather(pl.Series(places.astype(np.uint32)))

    def prompt_fingerprints(self, prompts: Integers, edits: NDArray[np.int32]) -> pl.Series:
        """Thirty-two hexadecimal digits for each (prompt, edit)."""
        first = mix(self._prompt_key(prompts) ^ (edits.astype(np.uint64) << np.uint64(20)))
        second = mix(first ^ self._salt("fingerprint"))
        letters = np.concatenate([self._hex_digits(first), self._hex_digits(second)], axis=1)
        return text_column(letters)

    def prompt_signatures(
        self, prompts: Integers, edits: NDArray[np.int32], drift_percent: NDArray[np.int8]
    ) -> pl.Series:
        """MinHash signatures: 32 values of 16 bits, base64url without padding.

        An edit replaces about ``drift_percent`` of the values of its prompt, as a changed share
        of the shingles of a text would (Broder 1997). Edit 0 is the prompt itself.
        """
        keys = self._prompt_key(prompts)
        values = _random_values(keys)
        edited = np.flatnonzero(edits != 0)
        if len(edited):
            edit_keys = mix(keys[edited] ^ (edits[edited].astype(np.uint64) << np.uint64(24)))
            dice = _random_values(mix(edit_keys)) % np.uint16(100)
            replaced = dice < drift_percent[edited].astype(np.uint16)[:, None]
            values[edited] = np.where(replaced, _random_values(edit_keys), values[edited])
        return text_column(_base64url(values))

    def _prompt_key(self, prompts: Integers) -> Words:
        return mix(_as_words(prompts) ^ self._salt("prompt"))

    @staticmethod
    def _hex_digits(values: Words) -> Bytes:
        pairs = _HEX_PAIRS[np.ascontiguousarray(values).view(np.uint8).reshape(-1, 8)]
        return np.ascontiguousarray(pairs).view(np.uint8)


def _random_values(keys: Words) -> NDArray[np.uint16]:
    """32 random 16-bit values for each key: shape (keys, 32)."""
    words = _SIGNATURE_VALUES // 4
    steps = np.arange(1, words + 1, dtype=np.uint64) * np.uint64(0xD1342543DE82EF95)
    return np.ascontiguousarray(mix(keys[:, None] ^ steps)).view(np.uint16)


def _base64url(values: NDArray[np.uint16]) -> Bytes:
    """The bytes of each row of values as base64url (RFC 4648, section 5) without padding."""
    count, size = len(values), values.shape[1] * 2
    letters_per_row = (size * 8 + 5) // 6
    groups = -(-size // 3)
    padded = np.zeros((count, groups * 3), dtype=np.uint8)
    padded[:, :size] = values.astype("<u2", copy=False).view(np.uint8)
    triples = padded.reshape(count, groups, 3).astype(np.uint16)
    pairs = np.empty((count, groups, 2), dtype=np.uint16)
    pairs[:, :, 0] = _BASE64_PAIRS[(triples[:, :, 0] << 4) | (triples[:, :, 1] >> 4)]
    pairs[:, :, 1] = _BASE64_PAIRS[((triples[:, :, 1] & 15) << 8) | triples[:, :, 2]]
    letters = pairs.view(np.uint8).reshape(count, groups * 4)
    return np.ascontiguousarray(letters[:, :letters_per_row])


def _v4_texts(values: Words) -> pl.Series:
    """Addresses in 240.0.0.0/4."""
    # Three digits in every octet keep all texts equally long, which is what makes them cheap.
    octets = 100 + np.ascontiguousarray(values).view(np.uint8).reshape(-1, 8)[:, :4] % 155
    octets[:, 0] = 240 + octets[:, 0] % 16
    letters = np.empty((len(values), 15), dtype=np.uint8)
    letters[:] = np.frombuffer(b"000.000.000.000", dtype=np.uint8)
    for place, divisor in enumerate((100, 10, 1)):
        letters[:, place::4] += octets // np.uint8(divisor) % np.uint8(10)
    return text_column(letters)


def _v6_texts(values: Words) -> pl.Series:
    """Addresses in 2001:db8::/32; no group starts with a zero, so the text is canonical."""
    groups = np.ascontiguousarray(values).view(np.uint16).reshape(-1, 4)[:, :3]
    groups = (0x1000 + groups % 0xF000).astype(">u2")
    pairs = np.ascontiguousarray(_HEX_PAIRS[np.ascontiguousarray(groups).view(np.uint8)])
    digits = pairs.view(np.uint8).reshape(-1, 3, 4)
    letters = np.empty((len(values), 24), dtype=np.uint8)
    letters[:] = np.frombuffer(b"2001:db8:0000:0000::0000", dtype=np.uint8)
    for group, start in enumerate((9, 14, 20)):
        letters[:, start : start + 4] = digits[:, group]
    return text_column(letters)
