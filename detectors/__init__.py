"""The functional core: decides what is misuse. Knows no clock, file, socket or environment."""

from __future__ import annotations

__all__: list[str] = []
