"""Fixtures and options that all tests share."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.kafka import ExistingBroker, KafkaBroker
from tests.postgres import PostgresServer
from tests.support.components import data_folder, require
from tests.support.turns import turn


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--update-golden``."""
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files anew from what the code gives now; then read the diff",
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let tests marked ``alone`` run alone; who waits for them is not timed out by that."""
    with turn(item.config.rootpath / "build", alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.fixture(scope="session")
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written instead of compared."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaBroker | ExistingBroker]:
    """A Kafka broker for the whole session (with pytest-xdist: one for each worker).

    It is ours, unless ``FLOODWATCH_TEST_KAFKA=host:port`` names one. Topics outlive a test:
    make fresh ones with ``tests.kafka.create_topic``.
    """
    require("kafka")
    existing = os.environ.get("FLOODWATCH_TEST_KAFKA")
    if existing:
        yield ExistingBroker(existing)
        return
    with KafkaBroker() as broker:
        yield broker


@pytest.fixture
def own_kafka(kafka: KafkaBroker | ExistingBroker) -> Iterator[KafkaBroker]:
    """The session's broker for tests that stop or kill it; it runs again after the test."""
    if isinstance(kafka, ExistingBroker):
        pytest.skip("the broker of FLOODWATCH_TEST_KAFKA is not ours to kill; unset it")
    yield kafka
    if not kafka.running:
        kafka.start()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for the whole session; each test makes a database of its own."""
    require("postgres")
    with PostgresServer() as server:
        yield server


@pytest.fixture
def own_postgres(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """The session's server for tests that stop or kill it; it runs again after the test."""
    yield postgres
    if not postgres.running:
        postgres.start()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets."""
    require("data")
    return data_folder()
