"""``python -m dashboards``: write dashboards and rules anew from the code (``make dashboards``)."""

from __future__ import annotations

from itertools import chain

from dashboards.catalogue import dashboard_files
from dashboards.written import rule_files, write

if __name__ == "__main__":
    changed = write(chain(rule_files(), dashboard_files()))
    print("\n".join(map(str, changed)) or "nothing changed")
