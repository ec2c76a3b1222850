"""The version of a database's tables: seen, refused, brought to today's.

Versions are Alembic's: a table ``alembic_version`` names the step that was last applied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from monitor.store.engine import reading, shown_url, writing
from monitor.store.errors import StoreSchemaError
from monitor.store.tables import METADATA

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

__all__ = ["check_schema", "migrate"]

_LOCK: Final = 0x666C6F6F64  # "flood": whoever else migrates waits for it


def migrate(engine: Engine) -> tuple[str | None, str]:
    """Apply the steps that are missing, in one transaction; the versions before and after.

    Nothing is written where nothing is missing, so a role without the right to do so will do then.
    Two at once wait for each other.

    Raises:
        StoreSchemaError: the tables are newer than this program, or not ours.
        StoreUnavailableError: the database does not answer or refuses.
    """
    head = _scripts().get_current_head()
    assert head is not None
    with reading(engine) as connection:
        if _version(connection) == head:
            return head, head
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        before = _version(connection)
        configuration = _configuration()
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")
    return before, head


def check_schema(engine: Engine) -> None:
    """Raise StoreSchemaError unless the tables are those of today; else as ``migrate`` does."""
    head = _scripts().get_current_head()
    with reading(engine) as connection:
        version = _version(connection)
    if version != head:
        found = "there are no tables yet" if version is None else f"its tables are of {version}"
        raise StoreSchemaError(
            f"store {shown_url(engine.url)}: {found}, this program needs {head}; "
            "bring it there with 'floodwatch store migrate'"
        )


def _version(connection: Connection) -> str | None:
    """The version of the tables, None where there are none; refuses what we cannot work with."""
    place = shown_url(connection.engine.url)
    version = MigrationContext.configure(connection).get_current_revision()
    if version is None:
        strangers = set(inspect(connection).get_table_names()) & set(METADATA.tables)
        if strangers:
            raise StoreSchemaError(
                f"store {place}: has tables ({', '.join(sorted(strangers))}) but no version: they "
                "are not ours or older than versions; choose another database"
            )
    elif version not in {script.revision for script in _scripts().walk_revisions()}:
        raise StoreSchemaError(
            f"store {place}: its tables are of version {version}, newer than this program knows "
            f"({_scripts().get_current_head()}); upgrade Floodwatch, or restore the database "
            "from before"
        )
    return version


def _configuration() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", "monitor.store:migrations")
    configuration.set_main_option("path_separator", "os")
    return configuration


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_configuration())
