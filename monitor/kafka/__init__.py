"""Floodwatch on Apache Kafka: Faust agents on a transport that delivers whole fetched chunks.

``topics`` declares what must exist, ``transport`` reads it chunk by chunk, ``worker`` runs one
pipeline per partition and publishes what it finds, ``dlq`` keeps what could not be used.
Nothing is imported here: Faust takes a second to import, and not every command needs it.
"""

from __future__ import annotations

__all__: list[str] = []
