"""What JSON consists of, for the kernel: white space, texts, numbers."""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from monitor.wire.compiling import part, signed

__all__ = [
    "MAX_EXPONENT",
    "NOWHERE",
    "Bytes",
    "Words",
    "after_space",
    "is_space",
    "low_bytes",
    "nearest_float",
    "number_at",
    "text_end",
    "word_at",
]

_TAB, _RETURN, _SPACE = b"\t\r "
_QUOTE, _POINT, _PLUS, _MINUS = b'".+-'
_ZERO, _NINE, _SMALL_E, _LARGE_E = b"09eE"

_ONES: Final = np.uint64(0x0101010101010101)
_HIGH_BITS: Final = np.uint64(0x8080808080808080)
_QUOTES: Final = np.uint64(0x2222222222222222)
_BACKSLASHES: Final = np.uint64(0x5C5C5C5C5C5C5C5C)
_SPACES: Final = np.uint64(0x2020202020202020)
_DELETES: Final = np.uint64(0x7F7F7F7F7F7F7F7F)
_MAX_DIGITS: Final = 18
MAX_EXPONENT: Final = 64
_LOW_HALF: Final = np.uint64(0xFFFFFFFF)
NOWHERE: Final = -1

Bytes: TypeAlias = npt.NDArray[np.uint8]
Words: TypeAlias = npt.NDArray[np.uint64]


@part
def word_at(data: Bytes, position: int) -> np.uint64:
    """The 8 bytes from a position on as one little-endian word (one load when compiled)."""
    word = np.uint64(0)
    first = np.uint64(position)  # unsigned: numba then knows that it does not count from the end
    for k in range(8):
        word |= np.uint64(data[first + np.uint64(k)]) << np.uint64(8 * k)
    return word


@part
def _zero_bytes(word: np.uint64) -> np.uint64:
    """The high bit of every zero byte, and perhaps of bytes above the lowest one."""
    return (word - _ONES) & ~word & _HIGH_BITS


@part
def low_bytes(count: int) -> np.uint64:
    """A mask of the first ``count`` bytes of a word."""
    if count >= 8:
        return ~np.uint64(0)
    return (np.uint64(1) << np.uint64(8 * max(count, 0))) - np.uint64(1)


@part
def is_space(sign: np.uint8) -> bool:
    """Whether a byte is white space within a record; a new line ends it."""
    return bool(sign in (_SPACE, _TAB, _RETURN))


@part
def after_space(data: Bytes, position: int) -> int:
    """The first position from this one on that is no white space."""
    while is_space(data[position]):
        position += 1
    return position


@part
def _is_utf8(data: Bytes, start: int, end: int) -> bool:
    """Whether bytes are well-formed as in table 3-7 of the Unicode standard."""
    position = start
    while position < end:
        lead = data[position]
        position += 1
        if lead < 0x80:
            continue
        if lead < 0xC2 or lead > 0xF4:
            return False
        more = 1 + (lead >= 0xE0) + (lead >= 0xF0)
        if position + more > end:
            return False
        second = data[position]
        if (
            (lead == 0xE0 and second < 0xA0)
            or (lead == 0xED and second > 0x9F)
            or (lead == 0xF0 and second < 0x90)
            or (lead == 0xF4 and second > 0x8F)
        ):
            return False
        for k in range(more):
            if data[position + k] & 0xC0 != 0x80:
                return False
        position += more
    return True


@part
def text_end(data: Bytes, start: int) -> int:
    """The closing quote of a text that begins at ``start``; nowhere if the text is not plain."""
    position = start
    beyond_ascii = np.uint64(0)
    while True:
        word = word_at(data, position)
        controls = ((word - _SPACES) & ~word & _HIGH_BITS) | _zero_bytes(word ^ _DELETES)
        stops = _zero_bytes(word ^ _QUOTES) | _zero_bytes(word ^ _BACKSLASHES) | controls
        if stops:
            break
        beyond_ascii |= word & _HIGH_BITS
        position += 8
    # Of the flags only the lowest is sure: a borrow may have gone through those above it.
    lowest = stops & (~stops + np.uint64(1))
    beyond_ascii |= word & (lowest - np.uint64(1)) & _HIGH_BITS
    bytes_below = ((lowest >> np.uint64(7)) - np.uint64(1)) & _ONES
    position += signed((bytes_below * _ONES) >> np.uint64(56))
    if data[position] != _QUOTE or (beyond_ascii and not _is_utf8(data, start, position)):
        return NOWHERE
    return position


@part
def _digits(data: Bytes, start: int, before: np.uint64, count: int) -> tuple[int, np.uint64, int]:
    """Read digits: where they end, their number after those of ``before``, how many count.

    Leading zeros do not count. ``count`` of them were before; up to 19 the number is right.
    """
    position, number = start, before
    while _ZERO <= data[position] <= _NINE:
        number = number * np.uint64(10) + np.uint64(data[position] - _ZERO)
        count += count > 0 or data[position] != _ZERO
        position += 1
    return position, number, count


@part
def number_at(data: Bytes, start: int) -> tuple[int, int, np.uint64, int]:
    """Where a number ends (or nowhere), where its whole part ends, its digits and exponent."""
    nothing, none = np.uint64(0), signed(0)
    whole_end, mantissa, count = _digits(data, start, nothing, none)
    if whole_end == start or (whole_end > start + 1 and data[start] == _ZERO):
        return NOWHERE, whole_end, mantissa, none
    end, exponent = whole_end, none
    if data[end] == _POINT:
        end, mantissa, count = _digits(data, whole_end + 1, mantissa, count)
        exponent = whole_end + 1 - end
        if exponent == 0:
            return NOWHERE, whole_end, mantissa, none
    if data[end] == _SMALL_E or data[end] == _LARGE_E:
        sign = data[end + 1]
        power_start = end + 1 + (sign in (_PLUS, _MINUS))
        end, power, _ = _digits(data, power_start, nothing, none)
        if not 1 <= end - power_start <= 2:
            return NOWHERE, whole_end, mantissa, none
        exponent += -signed(power) if sign == _MINUS else signed(power)
    if count > _MAX_DIGITS or abs(exponent) > MAX_EXPONENT:
        return NOWHERE, whole_end, mantissa, none
    return end, whole_end, mantissa, exponent


def _powers_of_five() -> Words:
    """The first 128 bits of 5**q for |q| <= MAX_EXPONENT, shape (q, 2), high word first."""
    table = np.zeros((2 * MAX_EXPONENT + 1, 2), dtype=np.uint64)
    for exponent in range(-MAX_EXPONENT, MAX_EXPONENT + 1):
        power = 5 ** abs(exponent)
        if exponent < 0:
            # The reciprocal, rounded up at the last of 128 bits; below 5**-27 far behind it.
            bits = power.bit_length() - 1 if exponent >= -27 else 2 * power.bit_length()
            power = (1 << (bits + 128)) // power + 1
        excess = power.bit_length() - 128
        power = power >> excess if excess > 0 else power << -excess
        table[exponent + MAX_EXPONENT] = divmod(power, 1 << 64)
    table.setflags(write=False)
    return table


_POWERS: Final = _powers_of_five()


@part
def _product(one: np.uint64, other: np.uint64) -> tuple[np.uint64, np.uint64]:
    """The 128 bits of a product: high word, low word."""
    half = np.uint64(32)
    one_high, one_low = one >> half, one & _LOW_HALF
    other_high, other_low = other >> half, other & _LOW_HALF
    low = one_low * other_low
    middle = one_high * other_low + (low >> half)
    carry = one_low * other_high + (middle & _LOW_HALF)
    high = one_high * other_high + (middle >> half) + (carry >> half)
    return high, (carry << half) | (low & _LOW_HALF)


@part
def nearest_float(mantissa: np.uint64, exponent: int) -> np.uint64:
    """The bits of the float64 nearest to mantissa * 10**exponent, |exponent| <= MAX_EXPONENT.

    The algorithm of Eisel and Lemire, https://doi.org/10.1002/spe.2984; that it is exact without
    a fallback: Mushtak and Lemire, https://doi.org/10.1002/spe.3198.
    """
    if mantissa == 0:
        return np.uint64(0)
    zeros = 0
    for step in (32, 16, 8, 4, 2, 1):
        if mantissa >> np.uint64(64 - step) == 0:
            mantissa <<= np.uint64(step)
            zeros += step
    power = exponent + MAX_EXPONENT
    high, low = _product(mantissa, _POWERS[power, 0])
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):
        more, _ = _product(mantissa, _POWERS[power, 1])
        low += more
        high += np.uint64(low < more)
    upper = high >> np.uint64(63)
    shift = upper + np.uint64(9)
    rounded = high >> shift  # 54 bits: one more than there is room for
    halfway = low <= np.uint64(1) and -4 <= exponent <= 23 and rounded << shift == high
    if halfway and rounded & np.uint64(3) == np.uint64(1):
        rounded -= np.uint64(1)  # to even
    rounded = (rounded + (rounded & np.uint64(1))) >> np.uint64(1)
    binary_exponent = ((217_706 * exponent) >> 16) + 63 + signed(upper) - zeros + 1_023
    # The leading bit adds one to the exponent, and so does a carry out of the fraction.
    return (np.uint64(binary_exponent - 1) << np.uint64(52)) + rounded
