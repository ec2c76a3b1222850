"""The card of a model: what it is, what it was made from, and how good it looked then."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from monitor.models.scales import Scale

__all__ = ["CARD_FORMAT", "Calibration", "Card", "Parameters", "TrainingData", "model_id"]

CARD_FORMAT: Final = 1
_ID_DIGITS: Final = 16


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingData(_Section):
    """The log that a model was trained on. Times are event times, ms."""

    sources: tuple[str, ...]
    events: int
    first_ms: int
    last_ms: int
    warm_up_ms: Annotated[int, Field(description="Left out at the start: windows were filling.")]
    held_out_from_ms: int
    rows: int
    training_rows: int
    users: int
    excluded_users: int


class Parameters(_Section):
    """What the training was told."""

    trees: int
    max_samples: int
    seed: int


class Calibration(_Section):
    """Where the model alerts. A user counts once a day, by the highest score of that day.

    ``held_out`` figures are of the period that the trees have not seen.
    """

    wanted_per_10000: float
    alert_score: float
    alert_rank: float
    user_days: int
    alerting_user_days: int
    held_out_user_days: int
    held_out_alerting_user_days: int

    @property
    def held_out_per_10000(self) -> float:
        """Alerts for 10,000 users and day in the held-out period."""
        return 1e4 * self.held_out_alerting_user_days / max(1, self.held_out_user_days)


class Card(_Section):
    """``card.json``: a model is known by the hash of this, and this names the hash of the rest."""

    format: Literal[1] = CARD_FORMAT
    kind: Literal["isolation-forest"] = "isolation-forest"
    pack: str
    pack_version: str
    features: tuple[str, ...]
    scales: tuple[Scale, ...]
    definitions: dict[str, str]
    where: str
    every_ms: int
    data: TrainingData
    parameters: Parameters
    calibration: Calibration
    score_quantiles: dict[str, float]
    max_age_days: float
    versions: dict[str, str]
    arrays_sha256: str

    def encoded(self) -> bytes:
        """The content of the file."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def model_id(card: bytes) -> str:
    """The name of the model with this card."""
    return hashlib.sha256(card).hexdigest()[:_ID_DIGITS]
