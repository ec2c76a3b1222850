"""Which of the simulator's attacks the rules over single users can see."""

from __future__ import annotations

from typing import Final

__all__ = ["SEEN_BY_ONE_USER"]

SEEN_BY_ONE_USER: Final = frozenset(
    {
        "account-takeover",
        "burst-bot",
        "cost-abuse",
        "guard-probing",
        "likeness-campaign",
        "provenance-stripping",
        "report-bombing",
        "scrape",
        "share-and-delete",
        "share-flood",
        "slow-drip",
    }
)
"""Kinds of attacks whose single accounts stand out; the others only show across accounts."""
