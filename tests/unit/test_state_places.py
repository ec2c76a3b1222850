"""Places of objects that come and go, in blocks."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.state.places import Places


@given(st.lists(st.integers(-6, 6), max_size=120))
@settings(max_examples=200, deadline=None)
def test_objects_keep_the_lowest_place_that_was_free(moves: list[int]) -> None:
    """Against a dictionary; also where, in the middle, everything is taken over by a new one."""
    places: Places[int] = Places(block_size=4)
    model: dict[int, int] = {}
    written: dict[int, list[int]] = {}
    for step, move in enumerate(moves):
        if move > 0 or not model:
            free = min(set(range(len(model) + 1)) - model.keys())
            assert places.take(step) == free
            model[free] = step
        elif move < 0:
            place = sorted(model)[-move % len(model)]
            places.free(place)
            del model[place]
        else:
            restored: Places[int] = Places(block_size=4)
            restored.restore(places.count, model.items())
            written |= {number: places.block(number) for number in places.take_dirty()}
            places = restored
        blocks = {place // 4 for place in model}
        assert places.used_blocks() == sorted(blocks)
        for number in blocks:
            assert places.block(number) == [model[p] for p in sorted(model) if p // 4 == number]
    written |= {number: places.block(number) for number in places.take_dirty()}
    assert {n: kept for n, kept in written.items() if kept} == {
        number: places.block(number) for number in places.used_blocks()
    }


def test_what_changes_is_told_once() -> None:
    """A touch names the block, not its neighbours."""
    places: Places[str] = Places(block_size=2)
    for name in "abcde":
        places.take(name)
    assert places.take_dirty() == {0, 1, 2}
    places.touch(3)
    assert (places.take_dirty(), places.take_dirty()) == ({1}, set())
    places.touch_all()
    assert places.take_dirty() == {0, 1, 2}


def test_places_that_cannot_be() -> None:
    """Two objects in one, or one out of range."""
    for placed in ([(0, "a"), (0, "b")], [(2, "a")], [(-1, "a")]):
        places: Places[str] = Places(block_size=2)
        with pytest.raises(ValueError, match="place"):
            places.restore(2, placed)
