"""Workers that are killed, frozen and moved about on a real broker, and what came of it.

``python -m tests.chaos`` (``make chaos``) runs all of it, ``test_chaos`` a short version.
docs/chaos.md says what is shown and how each figure is measured.
"""

from __future__ import annotations

__all__: list[str] = []
