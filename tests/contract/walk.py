"""Compares two objects by everything that can be reached from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import polars as pl

__all__ = ["DERIVED", "differences", "same_attributes"]

DERIVED: Final[Mapping[str, str]] = {
    "KeyTable._slots": "an index of the keys: where a key lies depends on which came first",
    "IncidentTracker._closing": "a heap of what open incidents hold as due_ms, and of closed ones",
    "Places._free": "a heap of the places without an object",
}
"""What two stages in the same state need not share: class and attribute, and why."""

_PLAIN: Final = (type(None), bool, int, float, str, bytes)
_BY_VALUE: Final = (*_PLAIN, np.generic, set, frozenset, Counter)
_CONTAINERS: Final = (dict, list, tuple)


def differences(one: object, other: object) -> list[str]:
    """The paths at which two objects differ, dictionaries also by their order."""
    return list(_differences("", one, other))


def same_attributes(one: object, other: object) -> set[str]:
    """The paths of attributes at which two objects of a type are the same all the way down."""
    return set(_same_attributes("", one, other, set()))


def _same_attributes(path: str, one: object, other: object, seen: set[int]) -> Iterator[str]:
    others = dict(_attributes(other))
    for name, value in _attributes(one):
        here = f"{path}.{name}"
        if next(_differences(here, value, others[name]), None) is None:
            yield here
        elif id(value) not in seen and not isinstance(
            value, (*_BY_VALUE, *_CONTAINERS, np.ndarray)
        ):
            seen.add(id(value))
            yield from _same_attributes(here, value, others[name], seen)


def _differences(path: str, one: Any, other: Any) -> Iterator[str]:  # noqa: ANN401 - anything
    if one is other:
        return
    if type(one) is not type(other):
        yield f"{path}: {type(one).__name__} and {type(other).__name__}"
    elif isinstance(one, np.ndarray):
        if (one.dtype, one.shape, one.tobytes()) != (other.dtype, other.shape, other.tobytes()):
            yield f"{path}: arrays"
    elif isinstance(one, _BY_VALUE):
        if one != other:
            yield f"{path}: {one!r} and {other!r}"
    elif isinstance(one, pl.Expr):
        if not one.meta.eq(other):
            yield f"{path}: {one} and {other}"
    elif isinstance(one, dict):
        if list(one) != list(other):
            yield f"{path}: keys {list(one)} and {list(other)}"
        for key in one.keys() & other.keys():
            yield from _differences(f"{path}[{key!r}]", one[key], other[key])
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            yield f"{path}: {len(one)} and {len(other)} elements"
        for index, pair in enumerate(zip(one, other, strict=False)):
            yield from _differences(f"{path}[{index}]", *pair)
    else:
        yield from _object_differences(path, one, other)


def _object_differences(path: str, one: object, other: object) -> Iterator[str]:
    mine, others = dict(_attributes(one)), dict(_attributes(other))
    if not mine:
        raise TypeError(f"{path}: it is not known how to compare two {type(one).__name__}")
    if mine.keys() != others.keys():
        yield f"{path}: attributes {sorted(mine)} and {sorted(others)}"
    for name in mine.keys() & others.keys():
        if not any(f"{base.__name__}.{name}" in DERIVED for base in type(one).__mro__):
            yield from _differences(f"{path}.{name}", mine[name], others[name])


def _attributes(thing: object) -> Iterator[tuple[str, object]]:
    """Names and values of an object's attributes, in slots or not."""
    names = list(getattr(thing, "__dict__", ()))
    for base in type(thing).__mro__:
        slots = base.__dict__.get("__slots__", ())
        names += [slots] if isinstance(slots, str) else slots
    for name in names:
        if name not in {"__dict__", "__weakref__"} and hasattr(thing, name):
            yield name, getattr(thing, name)
