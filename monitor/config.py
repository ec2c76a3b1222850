"""The settings there are, with their defaults and bounds. ``load_settings`` fills them.

Sections are nested models; ``docs/configuration.md`` lists every key.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

__all__ = [
    "DELIMITER",
    "PREFIX",
    "DemoSettings",
    "KafkaSettings",
    "MetricsSettings",
    "ModelSettings",
    "PagingSettings",
    "RunnerSettings",
    "Settings",
    "StoreSettings",
    "TopicSettings",
    "environment_name",
    "setting_keys",
]

PREFIX: Final = "FLOODWATCH_"
DELIMITER: Final = "__"

_Port = Annotated[int, Field(ge=0, le=65_535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TopicSettings(_Section):
    """The names of the topics. Dead letters of an input topic go to its name and ``-dlq``."""

    generation_events: str = Field(
        default="generation-events", min_length=1, description="Generation events, keyed by user."
    )
    sharing_events: str = Field(
        default="sharing-events", min_length=1, description="Sharing events, keyed by user."
    )
    feedback_events: str = Field(
        default="feedback-events", min_length=1, description="Feedback events, keyed by subject."
    )
    traces: str = Field(
        default="traces",
        min_length=1,
        description="Who touched which shared key: from the stage of users to that of shared keys.",
    )
    meetings: str = Field(
        default="meetings",
        min_length=1,
        description="Who met whom: from the stage of shared keys to that of groups.",
    )
    alerts: str = Field(default="alerts", min_length=1, description="Alerts are published here.")
    decisions: str = Field(
        default="decisions", min_length=1, description="Decisions are published here."
    )
    incidents: str = Field(
        default="incidents", min_length=1, description="Incidents are published here."
    )
    findings: str = Field(
        default="",
        description="Alerts are published here too, as OCSF Detection Findings. Empty: they are "
        "not.",
    )


class KafkaSettings(_Section):
    """The broker, the consumer group, the topics, and how chunks are fetched and merged."""

    brokers: str = Field(
        default="127.0.0.1:9092",
        pattern=r"^[^\s,:]+:\d+(,[^\s,:]+:\d+)*$",
        description="Bootstrap brokers: host:port, several separated by commas.",
    )
    group: str = Field(default="floodwatch", min_length=1, description="Consumer group.")
    instance_id: str = Field(
        default="",
        description="Static membership: a name that is unique in the group and survives restarts.",
    )
    topics: TopicSettings = TopicSettings()
    session_timeout_s: float = Field(
        default=6.0,
        ge=6.0,
        le=300.0,
        description="Silence after which the group gives a worker's partitions away, s.",
    )
    checkpoint_interval_s: float = Field(
        default=10.0,
        ge=0.05,
        le=3_600.0,
        description="How often state is written to the checkpoints' changelog, s. After a crash "
        "the events of that long are read again.",
    )
    checkpoint_share: float = Field(
        default=0.08,
        gt=0.0,
        le=1.0,
        description="Most of a partition's time that checkpoints may take; large states are "
        "then written less often.",
    )
    standby_replicas: int = Field(
        default=1,
        ge=0,
        le=16,
        description="Other workers that follow the checkpoints of a partition, to take over.",
    )
    chunk_records: int = Field(
        default=10_000, ge=1, le=100_000, description="Most records of one partition in a chunk."
    )
    merge_wait_ms: int = Field(
        default=100,
        ge=0,
        le=60_000,
        description="How long a quiet topic of a partition may hold back the others, ms.",
    )


class MetricsSettings(_Section):
    """Where ``/metrics``, ``/healthz`` and ``/readyz`` are served."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address to listen on.")
    port: _Port = Field(default=9_464, description="Port to listen on; 0 takes any free one.")
    enabled: bool = Field(default=True, description="Whether to serve them at all.")


class StoreSettings(_Section):
    """Where alerts, incidents and decisions are kept, for how long, and what waits meanwhile."""

    url: str = Field(
        default="",
        pattern=r"^((sqlite:///|postgresql\+psycopg://).+)?$",
        description="SQLAlchemy URL: sqlite:///relative.db, sqlite:////absolute.db or "
        "postgresql+psycopg://user@host/database. Empty: the demo keeps a file among its results, "
        "replay writes files only.",
    )
    password_file: str = Field(
        default="",
        description="File with the password for PostgreSQL. Empty: as the URL says, else libpq "
        "(PGPASSWORD, PGPASSFILE).",
    )
    retention_days: int = Field(
        default=90,
        ge=0,
        le=36_500,
        description="Days that floodwatch store keeps alerts, incidents and decisions after they "
        "came; 0 keeps them. Verdicts and the audit stay.",
    )
    batch_outputs: int = Field(
        default=5_000, ge=1, le=100_000, description="Most outputs written in a transaction."
    )
    spool: Path = Field(
        default=Path("build/spool"),
        description="Folder where replay and the demo keep what waits for the database; one for "
        "each process.",
    )
    spool_max_mb: int = Field(
        default=1_024,
        ge=1,
        le=1_048_576,
        description="Most that may wait there, MB; what is beyond it is lost to the store, and "
        "counted.",
    )


class PagingSettings(_Section):
    """Which incidents wake somebody, and where Alertmanager is told of them."""

    alertmanagers: str = Field(
        default="",
        pattern=r"^(https?://[^\s,]+(,https?://[^\s,]+)*)?$",
        description="Alertmanagers that floodwatch store tells of open incidents, such as "
        "http://alertmanager:9093; all members of a cluster, separated by commas. Empty: nobody "
        "is paged.",
    )
    severity: Literal["info", "low", "medium", "high", "critical"] = Field(
        default="high", description="Incidents of this severity and above are told."
    )
    interval_s: float = Field(
        default=2.0, ge=0.1, le=300.0, description="How often the store is asked what is open, s."
    )
    refresh_s: float = Field(
        default=60.0,
        ge=1.0,
        le=3_600.0,
        description="How often Alertmanager is told again, s; what it is not told for four times "
        "as long is over.",
    )
    runbooks: str = Field(
        default="",
        pattern=r"^(https?://\S+/)?$",
        description="URL of the folder that docs/runbooks is in, with a slash at its end: pages "
        "link to runbooks there.",
    )
    dashboard: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="URL of a dashboard that pages link to; {incident} stands for the incident.",
    )


class ModelSettings(_Section):
    """Where anomaly models are kept, and which may be used."""

    registry: str = Field(
        default="",
        description="Folder of the models (floodwatch model). Empty: nothing is scored, and rules "
        "on anomaly columns stay silent.",
    )
    public_key: str = Field(
        default="",
        description="File with an Ed25519 public key (PEM): only models signed with its private "
        "key are used.",
    )
    refresh_s: float = Field(
        default=5.0,
        ge=0.1,
        le=3_600.0,
        description="How often a worker looks for another champion or challenger, s.",
    )


class RunnerSettings(_Section):
    """The in-process runner of the demo and of replay, and state bounds of every runner."""

    partitions: int = Field(
        default=1, ge=1, le=1_024, description="Partitions of the in-process runner."
    )
    max_users: int = Field(
        default=262_144,
        ge=1,
        le=16_777_216,
        description="Most users kept per partition; newcomers go first, then the longest idle.",
    )


class DemoSettings(_Section):
    """The demo: how much is simulated, and how fast."""

    users: int = Field(default=20_000, ge=100, le=1_000_000, description="Honest users.")
    seed: int = Field(
        default=7, ge=0, description="Seed of the simulation: the same seed, the same events."
    )
    minutes: float = Field(
        default=0.0,
        ge=0.0,
        le=1_440.0,
        description="Minutes until the demo ends; 0 runs until Ctrl-C (or a simulated day).",
    )
    speed: float = Field(
        default=10.0,
        ge=0.1,
        le=10_000.0,
        description="Simulated seconds in a second of wall clock.",
    )
    out: Path = Field(default=Path("build/demo"), description="Folder of the results.")


class Settings(BaseSettings):
    """All settings of Floodwatch. Make one with ``load_settings``."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=PREFIX, env_nested_delimiter=DELIMITER
    )

    pack: str = Field(
        default="default",
        min_length=1,
        description="Name of a built-in pack, or the folder of a pack.",
    )
    kafka: KafkaSettings = KafkaSettings()
    metrics: MetricsSettings = MetricsSettings()
    store: StoreSettings = StoreSettings()
    paging: PagingSettings = PagingSettings()
    models: ModelSettings = ModelSettings()
    runner: RunnerSettings = RunnerSettings()
    demo: DemoSettings = DemoSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what it is given: ``load_settings`` reads the sources, to know who said what."""
        return (init_settings,)


def environment_name(path: tuple[str, ...]) -> str:
    """The environment variable of a key: ``("kafka", "group")`` is FLOODWATCH_KAFKA__GROUP."""
    return PREFIX + DELIMITER.join(path).upper()


def setting_keys(
    model: type[BaseModel] = Settings, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """The paths of all sections and keys, with what is known about each."""
    for name, field in model.model_fields.items():
        path = (*above, name)
        yield path, field
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from setting_keys(inner, path)
