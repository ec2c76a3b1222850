"""What can be wrong with a model."""

from __future__ import annotations

__all__ = ["ModelError"]


class ModelError(Exception):
    """A model that cannot be used, or trained: the message says which, why and what to do."""
