"""The compact map of dead letters is a dictionary that takes less room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from monitor.kafka.dead_letters import LetterId
from monitor.kafka.letter_map import LetterMap

LETTERS = st.builds(
    LetterId,
    st.sampled_from([0, 1, 2**31 - 1]),
    st.integers(0, 12) | st.just(2**63 - 1),
    st.sampled_from([-1, 0, 1_780_000_000_000]),
)


@given(st.lists(st.tuples(LETTERS, st.integers(0, 255))), st.integers(1, 8))
def test_it_holds_what_a_dictionary_holds(
    writes: list[tuple[LetterId, int]], recent_max: int
) -> None:
    """However often it is merged, with letters set again before and after."""
    found = LetterMap(recent_max)
    expected: dict[LetterId, int] = {}
    for letter, value in writes:
        found[letter] = value
        expected[letter] = value
        assert found.get(letter) == value
    for partition in (0, 1, 2, 2**31 - 1):
        for offset in (*range(14), 2**63 - 1):
            for time_ms in (-1, 0, 1_780_000_000_000):
                letter = LetterId(partition, offset, time_ms)
                assert found.get(letter) == expected.get(letter)
                assert (letter in found) == (letter in expected)


def test_many_letters_take_twenty_one_bytes_each() -> None:
    found = LetterMap()
    for offset in range(300_000):
        found[LetterId(offset % 8, offset, 1_780_000_000_000 + offset)] = 1
    assert found.get(LetterId(7, 299_999, 1_780_000_299_999)) == 1
    assert found.get(LetterId(7, 299_999, 1_780_000_299_998)) is None
    arrays = (found._partitions, found._offsets, found._times_ms, found._values)
    assert sum(array.nbytes for array in arrays) <= 21 * 300_000
    assert len(found._recent) <= 65_536


def test_numbers_beyond_a_byte_stay_at_its_end() -> None:
    found = LetterMap()
    found[LetterId(0, 0, 0)] = 1_000
    assert found.get(LetterId(0, 0, 0)) == 255
