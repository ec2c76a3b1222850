"""The demo: a simulated platform, the in-process runner and a live picture, in one process."""

from __future__ import annotations

__all__: list[str] = []
