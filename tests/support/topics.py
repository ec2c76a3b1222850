"""The names of topics as a configuration holds them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitor.kafka.topics import TopicNames

__all__ = ["topic_lines", "topic_settings"]


def topic_settings(names: TopicNames) -> dict[str, str]:
    """The section ``kafka.topics``; topics without a name are left out."""
    return {field: name for field, name in asdict(names).items() if name}


def topic_lines(names: TopicNames) -> str:
    """The same as lines of YAML, indented by four."""
    return "\n".join(f"    {field}: {name}" for field, name in topic_settings(names).items())
