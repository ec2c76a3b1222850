"""YAML files whose entries know their lines.

The subset a pack needs, with YAML 1.2's scalars: ``NO`` and ``on`` are words, ``true`` and
``false`` are the only booleans, dates and ``1:30`` are strings. Duplicate keys, aliases and tags
are refused: each has surprised someone reading a rule at night.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import yaml

from monitor.packs.problems import PackProblems, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["Content", "Document", "EntryPath", "label", "read_document"]

EntryPath: TypeAlias = tuple[str | int, ...]
Content: TypeAlias = "dict[str, Content] | list[Content] | str | int | float | bool | None"

_TAG: Final = "tag:yaml.org,2002:"
_SCALARS: Final = (
    ("null", re.compile(r"~|null|")),
    ("bool", re.compile(r"true|false")),
    ("int", re.compile(r"[-+]?[0-9]{1,18}")),
    ("float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")),
)
_MAX_FILE_BYTES: Final = 1_000_000
_MAX_DEPTH: Final = 16


def label(path: EntryPath) -> str:
    """``("rules", 3, "severity")`` as ``rules[3].severity``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file as plain data, with the line of every entry."""

    file: str
    content: Content
    lines: Mapping[EntryPath, int]

    def line(self, path: EntryPath) -> int:
        """The line of an entry, or of the nearest entry around it that exists."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)

    def problem(self, path: EntryPath, message: str, hint: str = "") -> Problem:
        """A problem at an entry of this file."""
        return Problem(self.file, self.line(path), label(path), message, hint)


class _Loader(yaml.SafeLoader):
    def resolve(self, kind: type[yaml.Node], value: str, implicit: object) -> str:
        plain = isinstance(implicit, tuple) and bool(implicit[0])
        if kind is not yaml.ScalarNode or not plain:
            tag: str = super().resolve(kind, value, implicit)
            return tag
        for name, pattern in _SCALARS:
            if pattern.fullmatch(value):
                return _TAG + name
        return _TAG + "str"

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.MarkedYAMLError(
                problem="aliases are not supported: write it out", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


def read_document(path: Path, file: str) -> Document:
    """Read one file; ``file`` is its name in messages.

    Raises:
        PackProblems: missing, not UTF-8, too large, not YAML, or one of the refused forms.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise PackProblems([Problem(file, 0, "", f"cannot be read: {reason}")]) from error
    if len(data) > _MAX_FILE_BYTES:
        message = f"{len(data)} bytes, {_MAX_FILE_BYTES} at most"
        raise PackProblems([Problem(file, 0, "", message)])
    return _parse(data, file)


def _parse(data: bytes, file: str) -> Document:
    try:
        root = yaml.compose(data.decode(), Loader=_Loader)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PackProblems([Problem(file, line, "", "is not UTF-8")]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(part for part in (error.context, error.problem) if part)
        hint = f"column {mark.column + 1}" if mark else ""
        problem = Problem(file, mark.line + 1 if mark else 0, "", message, hint)
        raise PackProblems([problem]) from error
    except (yaml.YAMLError, RecursionError) as error:
        message = str(error).splitlines()[0] if isinstance(error, yaml.YAMLError) else "too deep"
        raise PackProblems([Problem(file, 0, "", f"is not YAML: {message}")]) from error
    lines: dict[EntryPath, int] = {}
    problems: list[Problem] = []
    content: Content = None
    if root is not None:
        content = _Reader(file, lines, problems).read(root, ())
    if problems:
        raise PackProblems(problems)
    return Document(file, content, lines)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Turns nodes into plain data, noting lines and collecting problems."""

    file: str
    lines: dict[EntryPath, int]
    problems: list[Problem]

    def read(self, node: yaml.Node, path: EntryPath) -> Content:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if len(path) > _MAX_DEPTH:
            self._refuse(node, path, f"nested deeper than {_MAX_DEPTH}")
            return None
        if isinstance(node, yaml.MappingNode):
            return dict(self._entries(node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._scalar(node, path)

    def _entries(self, node: yaml.MappingNode, path: EntryPath) -> Iterator[tuple[str, Content]]:
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                self._refuse(key_node, path, "keys must be plain words")
                continue
            key = (*path, key_node.value)
            if key in self.lines:
                message = f"duplicate key, first given in line {self.lines[key]}"
                self._refuse(key_node, key, message)
                continue
            self.lines[key] = key_node.start_mark.line + 1
            yield key_node.value, self.read(value_node, key)

    def _scalar(self, node: yaml.Node, path: EntryPath) -> Content:
        text: str = node.value
        match node.tag.removeprefix(_TAG):
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text == "true"
            case "int":
                return int(text)
            case "float":
                return float(text)
            case _:
                self._refuse(node, path, f"tag {node.tag!r} is not supported")
                return None

    def _refuse(self, node: yaml.Node, path: EntryPath, message: str) -> None:
        line = node.start_mark.line + 1
        self.problems.append(Problem(self.file, line, label(path), message))
