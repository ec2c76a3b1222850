"""The bytes of a refused record, made readable: what is wrong in it is marked.

Whoever sent it may not be a friend: nothing in it reaches the terminal that is not printable.
"""

from __future__ import annotations

import json
import re
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, TypeAlias

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["printable", "readable_record"]

_MAX_LINES: Final = 200
_MAX_CHARACTERS: Final = 400
_TEXT_WIDTH: Final = 100
_HEX_BYTES: Final = 16
_INDENT: Final = "  "

_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_BYTE: Final = re.compile(r"\bbyte (\d+)")

_Path: TypeAlias = "tuple[str, ...] | None"
"""The steps that lead on to what is wrong, None beside that way, empty at its end."""


class _Members(list[tuple[str, object]]):
    """An object as it was written: in order, with what occurs twice."""


class _Literal(str):
    """A number as it was written."""

    __slots__ = ()


def printable(text: str) -> str:
    """``text`` with everything escaped that is not to be seen: control, bidi, surrogates."""
    return "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in text)


def readable_record(raw: bytes, *, path: str, message: str) -> list[Text]:
    """The lines of a record: JSON indented, other text as it is, bytes in hexadecimal.

    The byte that ``message`` names is marked, else what ``path`` points to. At most 200 lines,
    and one that says how many more there are.
    """
    place = _BYTE.search(message)
    wrong = int(place[1]) if place else None
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        lines = _hex_lines(raw, error.start)
    else:
        found = _json_lines(text, path) if wrong is None else None
        lines = _text_lines(text, raw, wrong) if found is None else found
    shown = list(islice(lines, _MAX_LINES))
    left = sum(1 for _ in lines)
    if left:
        shown.append(Text(f"... {left:,} more lines: --raw writes all bytes", style="dim"))
    return shown


# -- JSON


def _json_lines(text: str, path: str) -> Iterator[Text] | None:
    """None if it is not JSON, or nested so deeply that nobody should look at it."""
    try:
        root = json.loads(
            text,
            object_pairs_hook=_Members,
            parse_int=_Literal,
            parse_float=_Literal,
            parse_constant=_refuse,
        )
        steps = tuple(name or index for name, index in _STEP.findall(path))
        # All at once: what is too deep is found before half of it is shown.
        return iter(list(_node_lines(root, steps, "", "", "")))
    except (ValueError, RecursionError):
        return None


def _refuse(literal: str) -> None:
    """Python would take NaN and Infinity; JSON has no such thing."""
    raise ValueError(literal)


def _node_lines(node: object, steps: _Path, indent: str, before: str, after: str) -> Iterator[Text]:
    """The lines of a value: ``before`` is its name, ``after`` the comma that follows it."""
    if isinstance(node, _Members):
        members: Sequence[tuple[str, object]] = node
        brackets = "{}"
    elif isinstance(node, list):
        members = [(str(index), value) for index, value in enumerate(node)]
        brackets = "[]"
    else:
        shown = f"{indent}{before}{_scalar(node)}{after}"
        yield _line(shown, marked=steps is not None)
        return
    next_name = steps[0] if steps else None
    leads_on = any(name == next_name for name, _ in members)
    marked = steps is not None and not leads_on
    if not members:
        yield _line(f"{indent}{before}{brackets}{after}", marked=marked)
        return
    yield _line(f"{indent}{before}{brackets[0]}", marked=marked)
    for number, (name, value) in enumerate(members, 1):
        on = steps[1:] if steps and name == next_name else None
        title = f"{_scalar(name)}: " if brackets == "{}" else ""
        comma = "," if number < len(members) else ""
        yield from _node_lines(value, on, indent + _INDENT, title, comma)
    yield _line(f"{indent}{brackets[1]}{after}", marked=False)


def _scalar(value: object) -> str:
    if isinstance(value, _Literal):
        return value
    return printable(json.dumps(value, ensure_ascii=False))


def _line(text: str, *, marked: bool) -> Text:
    if len(text) > _MAX_CHARACTERS:
        text = f"{text[:_MAX_CHARACTERS]}... ({len(text):,} characters)"
    return Text(f"{text}  <-- here", style="bold red") if marked else Text(text)


# -- what is not JSON


def _text_lines(text: str, raw: bytes, wrong: int | None) -> Iterator[Text]:
    """The lines of ``text``, which is ``raw`` decoded; ``wrong`` is a byte of the latter."""
    place = None if wrong is None else len(raw[:wrong].decode(errors="ignore"))
    return chain.from_iterable(
        _wrapped(line, start, place) for start, line in _numbered_lines(text)
    )


def _numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line with the position of its first character."""
    start = 0
    for line in text.split("\n"):
        yield start, line
        start += len(line) + 1


def _wrapped(line: str, start: int, wrong: int | None) -> Iterator[Text]:
    for first in range(0, max(1, len(line)), _TEXT_WIDTH):
        part = line[first : first + _TEXT_WIDTH]
        place = -1 if wrong is None else wrong - start - first
        # The end of a line counts too: it is a control character where none may be.
        ends = first + _TEXT_WIDTH >= len(line)
        if not 0 <= place < len(part) + ends:
            yield Text(printable(part))
            continue
        before, letter = printable(part[:place]), printable(part[place : place + 1])
        yield Text.assemble(before, (letter, "bold red"), printable(part[place + 1 :]))
        yield Text(" " * len(before) + "^-- here", style="bold red")


def _hex_lines(raw: bytes, wrong: int) -> Iterator[Text]:
    for start in range(0, len(raw), _HEX_BYTES):
        part = raw[start : start + _HEX_BYTES]
        letters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
        marked = start <= wrong < start + _HEX_BYTES
        yield _line(f"{start:08x}  {part.hex(' '):<47}  {letters}", marked=marked)
