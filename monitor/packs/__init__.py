"""Packs from YAML: read, checked by file and line, compiled, their cases played."""

from __future__ import annotations

from monitor.packs.cases import CaseResult, check_pack
from monitor.packs.loader import load_pack, read_pack
from monitor.packs.problems import PackProblems, Problem
from monitor.packs.source import PackSource

__all__ = [
    "CaseResult",
    "PackProblems",
    "PackSource",
    "Problem",
    "check_pack",
    "load_pack",
    "read_pack",
]
