"""The errors of the Kafka shell: each says what was wrong, where, and what to do."""

from __future__ import annotations

__all__ = ["KafkaShellError", "PublishError", "TopicsError", "WorkerError"]


class KafkaShellError(Exception):
    """Base of all errors raised by ``monitor.kafka``."""


class TopicsError(KafkaShellError):
    """The topics on the broker are not what the worker needs."""


class PublishError(KafkaShellError):
    """An output was not acknowledged by the broker; nothing that depends on it was committed."""


class WorkerError(KafkaShellError):
    """The worker stopped because of a failure (its cause); uncommitted records are read again."""
