"""Settings of the benign baseline, as they stand in a scenario file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["BaselineSettings"]


class BaselineSettings(BaseModel):
    """The benign part of a scenario. Shares are between 0 and 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sessions_per_day: float = Field(
        default=3.0, gt=0, le=14, description="Mean sessions of an account in a day."
    )
    events_per_s: float | None = Field(
        default=None,
        gt=0,
        le=1_000_000,
        description="Mean rate over the whole run; replaces sessions_per_day.",
    )
    pace: float = Field(
        default=1.0,
        ge=0.1,
        le=100,
        description="How fast people act; above 1 is faster than people are.",
    )
    day_night: float = Field(
        default=1.0, ge=0, le=1, description="Strength of day and night; 0 is a flat day."
    )
    user_skew: float = Field(
        default=0.75, ge=0, le=2, description="Zipf exponent of how active accounts are."
    )
    asset_skew: float = Field(
        default=1.0, ge=0, le=2, description="Zipf exponent of how popular videos are."
    )
    trending_assets: int = Field(
        default=5000, ge=1, le=1_000_000, description="Public videos that people find."
    )
    newcomers_per_day: float = Field(
        default=0.02, ge=0, le=0.5, description="Share of accounts that sign up in a day."
    )
    people_per_nat_address: int = Field(
        default=300, ge=1, le=100_000, description="People behind one carrier NAT address."
    )
    guard_blocked: float = Field(
        default=0.014, ge=0, le=0.5, description="Share of honest prompts the guard blocks."
    )
    guard_flagged: float = Field(
        default=0.03, ge=0, le=0.5, description="Share of honest prompts the guard flags."
    )
    likeness: float = Field(
        default=0.006, ge=0, le=0.5, description="Share of prompts that name a real person."
    )
    removals: float = Field(
        default=0.025, ge=0, le=0.5, description="Share of own shares taken down later."
    )
    appeals: float = Field(
        default=0.04, ge=0, le=1, description="Share of blocked prompts that are appealed."
    )
