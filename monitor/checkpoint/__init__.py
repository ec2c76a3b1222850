"""Checkpoints: the state of a partition, and the order in which its topics were merged.

How they work and why: ``docs/decisions/0005-checkpoints-by-manifest.md``. Nothing here knows
Kafka: ``contract`` names what is asked of it.
"""

from __future__ import annotations

__all__: list[str] = []
