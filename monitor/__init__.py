"""The imperative shell: talks to Kafka, files, databases, browsers and people."""

from __future__ import annotations

__all__: list[str] = []
