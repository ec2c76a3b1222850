"""Alertmanager's API, version 2: tell it what is firing.

https://github.com/prometheus/alertmanager/blob/v0.25.0/api/v2/openapi.yaml
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monitor.paging.pages import Page

__all__ = ["Alertmanager", "AlertmanagerError"]

_TIMEOUT_S: Final = 5.0


class AlertmanagerError(Exception):
    """Nobody took the alerts."""


class Alertmanager:
    """All members of a cluster: each is told everything, they deduplicate among themselves."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = tuple(url.rstrip("/") for url in urls)

    def post(self, pages: Sequence[tuple[Page, int]]) -> None:
        """Say that pages are firing until a time (ms); one in the past says that it is over.

        Raises:
            AlertmanagerError: not one member took them.
        """
        body = json.dumps(
            [
                {
                    "labels": dict(page.labels),
                    "annotations": dict(page.annotations),
                    "startsAt": _rfc3339(min(page.starts_ms, ends_ms)),
                    "endsAt": _rfc3339(ends_ms),
                    "generatorURL": page.url,
                }
                for page, ends_ms in pages
            ]
        ).encode()
        errors = [error for url in self._urls if (error := _post(url, body))]
        if len(errors) == len(self._urls):
            raise AlertmanagerError("; ".join(errors))


def _post(url: str, body: bytes) -> str:
    """What went wrong; empty if nothing did."""
    request = urllib.request.Request(  # noqa: S310 - settings allow http and https only
        f"{url}/api/v2/alerts",
        data=body,
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            if answer.status == HTTPStatus.OK:
                return ""
            return f"{url}: answers {answer.status}"
    except urllib.error.HTTPError as error:
        return f"{url}: refuses them: {error.code} {error.read(500).decode(errors='replace')}"
    except OSError as error:
        return f"{url}: {getattr(error, 'reason', error)}"


def _rfc3339(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1_000, UTC).isoformat(timespec="milliseconds")
