"""Paging: incidents that should wake somebody, told to Alertmanager until they are over."""

from __future__ import annotations

from monitor.paging.alertmanager import Alertmanager, AlertmanagerError
from monitor.paging.metrics import PagerMetrics
from monitor.paging.pager import Pager, PagerObserver
from monitor.paging.pages import Links, Page, pages_of

__all__ = [
    "Alertmanager",
    "AlertmanagerError",
    "Links",
    "Page",
    "Pager",
    "PagerMetrics",
    "PagerObserver",
    "pages_of",
]
