"""What Prometheus and Alertmanager have in common."""

from __future__ import annotations

import urllib.error
import urllib.request

from tests.servers import Server

__all__ = ["HttpServer"]


class HttpServer(Server):
    """A server that is ready when its ``/-/ready`` says so."""

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        """Whether clients are served."""
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False
