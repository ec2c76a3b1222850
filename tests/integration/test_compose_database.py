"""The user that Grafana has in the database: made by the script that docker-compose.yml mounts."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from monitor.store import Store
from tests.postgres import PostgresServer
from tests.postgres.server import PASSWORD, USER, binaries
from tests.support.outputs import an_alert

SCRIPT: Final = Path(__file__).resolve().parents[2] / "dashboards" / "postgres" / "reader.sh"
GRAFANA: Final = 'it\'s a "secret" $1'


def test_grafana_reads_every_table_and_changes_nothing(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """The tables are made after the script ran; its password needs no care with quotes."""
    folder = binaries()
    assert folder is not None
    database = postgres.new_database()
    secret = tmp_path / "grafana_database_password"
    secret.write_text(GRAFANA)
    script = tmp_path / "reader.sh"
    script.write_text(SCRIPT.read_text().replace("/run/secrets", str(tmp_path)))
    environment = {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "POSTGRES_USER": USER,
        "POSTGRES_DB": database,
        "PGHOST": "127.0.0.1",
        "PGPORT": str(postgres.port),
        "PGPASSWORD": PASSWORD,
    }
    bash = shutil.which("bash")
    assert bash is not None
    made = subprocess.run(
        [bash, script], env=environment, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    url = postgres.url(database)
    with closing(Store(url)) as store:
        store.write([an_alert(1)])
    engine = create_engine(make_url(url).set(username="grafana", password=GRAFANA))
    try:
        with engine.connect() as connection:
            assert connection.execute(text("SELECT alert_id FROM alerts")).all() == [("alr_1",)]
            tables = connection.execute(
                text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            )
            for (table,) in tables.all():
                connection.execute(text(f"SELECT count(*) FROM {table}"))
        for statement in (
            "DELETE FROM alerts",
            "SET default_transaction_read_only = off; DELETE FROM alerts",
            "CREATE TABLE mine (a int)",
        ):
            with pytest.raises(DBAPIError), engine.begin() as connection:
                connection.exec_driver_sql(statement)
    finally:
        engine.dispose()
        drop_user(url)


def drop_user(url: str) -> None:
    """Users are those of the server, which other tests use too."""
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP OWNED BY grafana")
            connection.exec_driver_sql("DROP ROLE grafana")
    finally:
        engine.dispose()
