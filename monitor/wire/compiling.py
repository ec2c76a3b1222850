"""How the kernels are compiled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import resources
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np

__all__ = ["kernel", "part", "signed"]

signed: Final = cast("Callable[[object], int]", np.int64)
"""To int64. In numba int() leaves an unsigned number unsigned, and a constant a constant: functions
are then compiled for it and once more for other numbers."""

_Function = TypeVar("_Function", bound=Callable[..., object])

_PARTS: Final = ("compiling.py", "tables.py", "tokens.py")

# Nothing is allocated, so no references need to be counted: that would take five times as long as
# the reading. Numba has the option for its own kernels, and does not list it.
_NO_REFERENCES: Final[dict[str, Any]] = {"_nrt": False}


def _digest_of_parts() -> str:
    """Changes with the sources of what kernels consist of, apart from themselves."""
    here = resources.files(__package__)
    sources = [here.joinpath(name).read_bytes() for name in _PARTS]
    return hashlib.sha256(b"".join(sources)).hexdigest()[:12]


def kernel(function: _Function) -> _Function:
    """Compile a function that Python calls.

    What was compiled is kept beside the source file and used until that file changes. So that it
    is not used with parts of another version, the name that it is kept under says which they are.
    """
    function.__qualname__ += f"_{_digest_of_parts()}"
    return cast("_Function", numba.njit(cache=True, **_NO_REFERENCES)(function))


def part(function: _Function) -> _Function:
    """Compile a function as a part of the kernels that call it.

    Numba passes structures of arrays word by word; inlined they are not passed at all.
    """
    return cast("_Function", numba.njit(forceinline=True, **_NO_REFERENCES)(function))
