"""Scenarios: what the platform is like, and which attacks are planted.

A scenario is a YAML file, or one of those that come with the product (``scenarios/*.yaml``).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detectors.errors import near_match
from monitor.packs.document import Document, EntryPath, read_document
from monitor.packs.problems import PackProblems, Problem
from monitor.simulator.attacks.kinds import ATTACK_KINDS, AnyAttack
from monitor.simulator.errors import ScenarioError
from monitor.simulator.settings import BaselineSettings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["Scenario", "builtin_scenarios", "load_scenario"]

_BUILTIN: Final = Path(__file__).parent / "scenarios"
_SUFFIXES: Final = (".yaml", ".yml")


class Scenario(BaseModel):
    """A baseline and the attacks on it. ``users`` and ``minutes`` are what a run has by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64)
    description: str = ""
    users: int = Field(default=10_000, ge=1, le=10_000_000)
    minutes: float = Field(default=60.0, gt=0, le=527_040)
    baseline: BaselineSettings = BaselineSettings()
    attacks: tuple[AnyAttack, ...] = ()


def builtin_scenarios() -> tuple[str, ...]:
    """Names of the scenarios that come with the product, sorted."""
    return tuple(sorted(path.stem for path in _BUILTIN.glob("*.yaml")))


def load_scenario(name_or_path: str) -> Scenario:
    """A built-in scenario by its name, or one read from a YAML file.

    Raises:
        ScenarioError: an unknown name, or a file that cannot be read or is wrong; the message
            names file, line and key, and what is allowed.
    """
    builtin = builtin_scenarios()
    if name_or_path in builtin:
        return _read(_BUILTIN / f"{name_or_path}.yaml", name_or_path)
    path = Path(name_or_path)
    if path.suffix not in _SUFFIXES:
        hint = near_match(name_or_path, builtin)
        known = ", ".join(builtin)
        raise ScenarioError(
            f"no scenario {name_or_path!r} ({hint + ' ' if hint else ''}"
            f"give a .yaml file or one of {known})"
        )
    return _read(path, name_or_path)


def _read(path: Path, shown: str) -> Scenario:
    try:
        document = read_document(path, shown)
        return Scenario.model_validate(document.content)
    except PackProblems as error:
        raise ScenarioError(str(error)) from error
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = sorted(_problem(document, detail) for detail in details)
        raise ScenarioError("\n".join(str(problem) for problem in problems)) from error


def _problem(document: Document, detail: ErrorDetails) -> Problem:
    """One of pydantic's findings: where it is, what is wrong, what is allowed."""
    location, given = detail["loc"], detail["input"]
    path = _entry_path(location)
    match detail["type"]:
        case "extra_forbidden":
            allowed = tuple(_model_at(location).model_fields)
            return document.problem(path, "unknown key", _choice(path[-1], allowed))
        case "missing":
            return document.problem(path, "is missing")
        case "union_tag_invalid":
            message = f"unknown kind {detail['ctx']['tag']!r}"
            hint = _choice(detail["ctx"]["tag"], tuple(ATTACK_KINDS))
            return document.problem((*path, "kind"), message, hint)
        case "union_tag_not_found":
            return document.problem((*path, "kind"), "is missing", _choice("", tuple(ATTACK_KINDS)))
        case "model_type" | "model_attributes_type" if not path:
            keys = ", ".join(Scenario.model_fields)
            return document.problem(path, f"has to be a mapping with the keys {keys}")
        case _:
            return document.problem(path, f"{detail['msg']}, not {given!r}")


def _choice(given: object, allowed: tuple[str, ...]) -> str:
    near = near_match(str(given), allowed)
    return f"{near + ' ' if near else ''}allowed: {', '.join(allowed)}"


def _entry_path(location: EntryPath) -> EntryPath:
    """``("attacks", 1, "count")``: without the kind that pydantic puts behind the number."""
    if location[:1] == ("attacks",):
        return location[:2] + location[3:]
    return location


def _model_at(location: EntryPath) -> type[BaseModel]:
    """The model whose key ``location`` ends in."""
    if location[0] == "attacks" and len(location) > 2:
        return ATTACK_KINDS[str(location[2])]
    return BaselineSettings if location[0] == "baseline" and len(location) > 1 else Scenario
