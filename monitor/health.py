"""The small HTTP server for ``/metrics``, ``/healthz`` and ``/readyz``, on a thread of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["Health", "MetricsServer", "PortTakenError", "port_is_free", "serve_metrics"]

_REQUEST_TIMEOUT_S: Final = 10.0
_TEXT: Final = ("Content-Type", "text/plain; charset=utf-8")


class PortTakenError(OSError):
    """The address to serve on cannot be used."""


@dataclass(slots=True)
class Health:
    """Whether the process is alive and ready, with the reason where it is not.

    Alive: its loop called ``beat`` within ``silence_s`` (compiling kernels may take a while).
    Ready: ``not_ready`` gives an empty reason. Both may be asked from any thread.
    """

    clock: Callable[[], float]
    not_ready: Callable[[], str]
    silence_s: float = 120.0
    _beat_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.beat()

    def beat(self) -> None:
        """The loop goes round."""
        self._beat_s = self.clock()

    def not_alive(self) -> str:
        """Why the process should be restarted; empty when it is well."""
        silent_s = self.clock() - self._beat_s
        return f"no sign of life for {silent_s:.0f} s" if silent_s > self.silence_s else ""


@dataclass(slots=True)
class MetricsServer:
    """A running server; ``address`` is where it listens."""

    host: str
    port: int
    _server: WSGIServer = field(repr=False)
    _thread: threading.Thread = field(repr=False)

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def close(self) -> None:
        """Stop listening and wait for the thread to end."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serve_metrics(
    registry: CollectorRegistry, health: Health, *, host: str, port: int
) -> Iterator[MetricsServer]:
    """Serve until the block ends. ``port`` 0 takes any free one.

    Raises:
        PortTakenError: the address is in use or not ours.
    """
    try:
        kind = _Server6 if ":" in host else _Server
        server = make_server(host, port, _application(registry, health), kind, _Handler)
    except OSError as error:
        reason = error.strerror or str(error)
        raise PortTakenError(
            f"cannot serve metrics on {host}:{port}: {reason}; choose another port "
            "(--metrics-port, 0 for any free one)"
        ) from error
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="metrics", daemon=True
    )
    thread.start()
    running = MetricsServer(host, server.server_port, server, thread)
    try:
        yield running
    finally:
        running.close()


def port_is_free(host: str, port: int) -> bool:
    """Whether one could listen there now. 0 always can."""
    try:
        with socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        ):
            return True
    except OSError:
        return False


def _application(registry: CollectorRegistry, health: Health) -> WSGIApplication:
    metrics: WSGIApplication = make_wsgi_app(registry)

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        page: dict[str, Callable[[], str]] = {
            "/healthz": health.not_alive,
            "/readyz": lambda: health.not_alive() or health.not_ready(),
        }
        path = environ.get("PATH_INFO", "/")
        if path == "/metrics":
            return metrics(environ, start_response)
        if path not in page:
            start_response("404 Not Found", [_TEXT])
            return [b"there is /metrics, /healthz and /readyz\n"]
        reason = page[path]()
        start_response("503 Service Unavailable" if reason else "200 OK", [_TEXT])
        return [f"{reason or 'ok'}\n".encode()]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    """One thread a request, so that a slow scraper does not hold up a health check."""

    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not news."""
