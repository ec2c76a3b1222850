"""pydantic's findings as problems that name file, line, entry, allowed values and a near match."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from detectors.errors import near_match
from monitor.packs.problems import PackProblems, Problem

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from monitor.packs.document import Document, EntryPath

__all__ = ["validate"]

_Model = TypeVar("_Model", bound=BaseModel)


def validate(document: Document, model: type[_Model]) -> _Model:
    """The content of a document as ``model``.

    Raises:
        PackProblems: everything in it that does not fit.
    """
    try:
        return model.model_validate(document.content)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [_problem(document, model, detail) for detail in details]
        raise PackProblems(problems) from error


def _problem(document: Document, model: type[BaseModel], detail: ErrorDetails) -> Problem:
    path: EntryPath = tuple(part for part in detail["loc"] if part != "[key]")
    given = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            known = _keys(_model_at(model, path[:-1]))
            hint = near_match(str(path[-1]), known) or f"keys are {', '.join(known)}"
            return document.problem(path, "unknown key", hint)
        case "missing":
            return document.problem(path[:-1], f"{str(path[-1])!r} is missing")
        case "literal_error":
            expected = str(detail["ctx"]["expected"])
            hint = near_match(str(given), _words(expected))
            return document.problem(path, f"{given!r} is not one of {expected}", hint)
        case "string_pattern_mismatch":
            hint = f"it must match {detail['ctx']['pattern']}"
            return document.problem(path, f"{given!r} cannot be used here", hint)
        case "value_error":
            return document.problem(path, str(detail["ctx"]["error"]))
        case "model_type" | "dict_type":
            return document.problem(path, f"{_shown(given)} is not a mapping of keys to values")
        case _:
            message = detail["msg"].removeprefix("Input ")
            return document.problem(path, f"{_shown(given)} {message[0].lower()}{message[1:]}")


def _words(expected: str) -> list[str]:
    """``"'a', 'b' or 'c'"`` as its words."""
    return expected.split("'")[1::2]


def _shown(given: object) -> str:
    if given is None:
        return "an empty value"
    text = repr(given)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _keys(model: type[BaseModel] | None) -> list[str]:
    fields = model.model_fields if model is not None else {}
    return [field.alias or name for name, field in fields.items()]


def _model_at(model: type[BaseModel], path: EntryPath) -> type[BaseModel] | None:
    """The model that describes the entry at ``path``."""
    found: type[BaseModel] | None = model
    for part in path:
        fields = found.model_fields if found is not None else {}
        by_key = {field.alias or name: field.annotation for name, field in fields.items()}
        if part in by_key:  # else an element of a list or of a dictionary: its model is known
            found = _first_model(by_key[str(part)])
    return found


def _first_model(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - any annotation
    """The model in ``Model``, ``list[Model]``, ``dict[str, Model]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _first_model(argument)
        if found is not None:
            return found
    return None
