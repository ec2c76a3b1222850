"""The edge: bytes to columns, and what cannot become columns to dead letters."""

from __future__ import annotations

from monitor.wire.decode import Decoded, Decoder
from monitor.wire.letters import DeadLetter, Reason
from monitor.wire.schema import Event

__all__ = ["DeadLetter", "Decoded", "Decoder", "Event", "Reason"]
