"""A store as the settings say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from monitor.store.engine import open_engine
from monitor.store.errors import StoreError
from monitor.store.schema import check_schema
from monitor.store.spool import Spool
from monitor.store.store import Store
from monitor.store.writer import StoreWriter, WriterLimits

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from monitor.config import Settings, StoreSettings
    from monitor.store.observer import StoreObserver

__all__ = ["DEMO_STORE", "open_existing", "open_store", "open_writer", "password_file"]

DEMO_STORE: Final = "floodwatch.db"
"""The demo's store, among its results."""

_MB: Final = 1 << 20


def open_store(settings: StoreSettings) -> Store:
    """The store, with the tables of today. Raises StoreError."""
    return Store(settings.url, password_file=password_file(settings))


def open_writer(settings: StoreSettings, observer: StoreObserver | None = None) -> StoreWriter:
    """A writer with its spool, of this process alone. Raises StoreError."""
    store = open_store(settings)
    try:
        spool = Spool(settings.spool, settings.spool_max_mb * _MB)
    except StoreError:
        store.close()
        raise
    limits = WriterLimits(batch_outputs=settings.batch_outputs)
    return StoreWriter(store, spool, limits=limits, observer=observer)


def open_existing(settings: Settings) -> Engine:
    """A store to ask and to act on: the configured one, else that of the demo.

    Nothing is made and no table is changed. Raises StoreError, with what to do where there is none.
    """
    url = settings.store.url
    if not url:
        path = settings.demo.out / DEMO_STORE
        if not path.is_file():
            raise StoreError(
                f"no store is configured, and the demo left none at {path}; name one with --store, "
                "FLOODWATCH_STORE__URL or store.url in the configuration, or run 'make demo' first"
            )
        url = f"sqlite:///{path}"
    engine = open_engine(url, password_file=password_file(settings.store), create=False)
    try:
        check_schema(engine)
    except StoreError:
        engine.dispose()
        raise
    return engine


def password_file(settings: StoreSettings) -> Path | None:
    """The file that holds the password, if one is named."""
    return Path(settings.password_file) if settings.password_file else None
