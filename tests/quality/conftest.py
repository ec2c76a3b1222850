"""What the tests of quality have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Say a figure to whoever runs the tests, whether they pass or not."""

    def told(text: str) -> None:
        with capsys.disabled():
            sys.stderr.write(f"\n  {text}")

    return told
