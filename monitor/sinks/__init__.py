"""Where outputs go: NDJSON files, the store. A sink takes batches and writes each as one unit."""

from __future__ import annotations

from monitor.sinks.findings import FindingSink
from monitor.sinks.ndjson import NdjsonSink
from monitor.sinks.sink import Sink

__all__ = ["FindingSink", "NdjsonSink", "Sink"]
