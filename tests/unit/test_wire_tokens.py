"""Texts and numbers of JSON, as the kernel reads them."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from monitor.wire.compiling import kernel
from monitor.wire.tokens import MAX_EXPONENT, NOWHERE, Bytes, Words, nearest_float, text_end

END: Final = b"\n" * 32


@kernel
def floats_of(mantissas: Words, exponents: npt.NDArray[np.int64], found: Words) -> None:
    for i in range(len(mantissas)):
        found[i] = nearest_float(mantissas[i], exponents[i])


@kernel
def ends_of(data: Bytes, starts: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> None:
    for i in range(len(starts)):
        found[i] = text_end(data, starts[i])


def ends(texts: list[bytes]) -> list[int]:
    """For each text, followed by a quote, where it ends (from its start), or -1."""
    lengths = np.array([len(text) + 2 for text in texts])
    starts = np.cumsum(lengths) - lengths
    data = np.frombuffer(b"".join(text + b'"\n' for text in texts) + END, dtype=np.uint8)
    found = np.zeros(len(texts), dtype=np.int64)
    ends_of(data, starts, found)
    return [
        NOWHERE if end == NOWHERE else end - start
        for end, start in zip(found.tolist(), starts.tolist(), strict=True)
    ]


def test_floats_are_the_nearest_ones() -> None:
    """To the last bit those of Python, on 800,000: any, halfway between two floats, near powers."""
    rng = np.random.default_rng(1)
    n = 200_000
    digits = rng.integers(1, 19, n)
    cases = [
        (rng.integers(0, 10**18, n) // 10 ** (18 - digits), (-MAX_EXPONENT, MAX_EXPONENT)),
        (rng.integers(10**15, 10**18, n), (-25, 5)),
        (rng.integers(2**53, 2**54, n) | 1, (-4, 24)),
        (2 ** rng.integers(0, 59, n) + rng.integers(-1, 2, n), (-30, 30)),
    ]
    for mantissas, (least, most) in cases:
        exponents = rng.integers(least, most + 1, n)
        found = np.zeros(n, dtype=np.uint64)
        floats_of(mantissas.astype(np.uint64), exponents, found)
        pairs = zip(mantissas.tolist(), exponents.tolist(), strict=True)
        expected = np.array([float(f"{mantissa}e{exponent}") for mantissa, exponent in pairs])
        assert (found == expected.view(np.uint64)).all()


def test_a_text_ends_at_its_quote_wherever_that_is() -> None:
    """Texts are read eight bytes at a time; every length, and every byte before and after."""
    texts = [b"a" * length for length in range(100)]
    assert ends(texts) == list(range(100))
    after = [b"b" * length + b'"' + bytes([byte]) for length in range(9) for byte in range(256)]
    assert ends(after) == [length for length in range(9) for _ in range(256)]


def test_escapes_and_control_characters_are_not_plain() -> None:
    """Wherever they stand."""
    odd = {*range(32), 0x7F, ord("\\")}
    for byte in range(128):
        if byte != ord('"'):
            texts = [b"c" * before + bytes([byte]) + b"d" * 9 for before in range(10)]
            assert (ends(texts) == [NOWHERE] * 10) == (byte in odd)


def test_only_utf8_is_a_text() -> None:
    """As Python has it: all sequences of two bytes, and three and four at the edges."""
    edges = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF]
    leads = [0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5]
    texts = [bytes([one, two]) for one in range(0x80, 256) for two in range(0x20, 256)]
    texts += [bytes([lead, one, two]) for lead in leads for one in edges for two in edges]
    texts += [
        bytes([lead, one, two, three])
        for lead in leads
        for one in edges
        for two in edges
        for three in edges
    ]
    texts = [b"e" * (number % 9) + text for number, text in enumerate(texts)]
    texts = [text for text in texts if not set(text) & {*range(32), 0x22, 0x5C, 0x7F}]
    assert [end != NOWHERE for end in ends(texts)] == [_is_utf8(text) for text in texts]


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
