"""The store: alerts, incidents and decisions that can be asked for after the process has ended."""

from __future__ import annotations

from monitor.store.errors import StoreError
from monitor.store.store import Store

__all__ = ["Store", "StoreError"]
