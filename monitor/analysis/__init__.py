"""Analysis of any table, for investigations: a file in, the same rows and scores out.

Nothing here needs a pack, a model or a broker, and nothing is kept.
"""

from __future__ import annotations

from monitor.analysis.errors import AnalysisError

__all__ = ["AnalysisError"]
