"""Servers that tests start, kill and start again: what all of them have in common."""

from __future__ import annotations

from tests.servers.ports import free_port
from tests.servers.process import die_with_parent
from tests.servers.server import Server, ServerError

__all__ = ["Server", "ServerError", "die_with_parent", "free_port"]
