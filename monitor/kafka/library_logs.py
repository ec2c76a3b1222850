"""Faust and aiokafka log for their developers; an operator wants their warnings."""

from __future__ import annotations

import logging
from typing import Final

__all__ = ["quiet_libraries"]

_LOGGERS: Final = ("aiokafka", "faust", "kafka", "mode")


def quiet_libraries(level: int = logging.WARNING) -> None:
    """Let the libraries under the worker log from ``level`` on. For the composition root."""
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(level)
