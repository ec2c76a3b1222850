"""What the tests of the store share: an empty database of each kind, a store in it, a clock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from monitor.store.store import Store
from tests.support.stores import Clock


@pytest.fixture
def store_clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    server = request.getfixturevalue("postgres")
    return str(server.url(server.new_database()))


@pytest.fixture
def store(store_url: str, store_clock: Clock) -> Iterator[Store]:
    with closing(Store(store_url, now_ms=store_clock)) as opened:
        yield opened
