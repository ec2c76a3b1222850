"""Free ports on the loopback that stay free while a server is down."""

from __future__ import annotations

import random
import socket
from typing import Final

__all__ = ["free_port"]

# Below the range from which systems take the ports of outgoing connections (Linux: 32768 up).
# A broker that is killed must find its port free again, although clients keep connecting.
_FIRST_PORT: Final = 15_000
_LAST_PORT: Final = 30_000
_ATTEMPTS_MAX: Final = 100


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on. Raises OSError where none is found."""
    choice = random.SystemRandom()
    for _ in range(_ATTEMPTS_MAX):
        port = choice.randint(_FIRST_PORT, _LAST_PORT)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port found between {_FIRST_PORT} and {_LAST_PORT}")
