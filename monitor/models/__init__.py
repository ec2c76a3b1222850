"""Models: trained by scikit-learn, kept as arrays, never pickled."""

from __future__ import annotations

__all__: list[str] = []
