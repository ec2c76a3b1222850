"""A refused record on the screen: what is wrong is marked, and nothing in it harms the screen."""

from __future__ import annotations

from itertools import pairwise

import pytest
from rich.text import Text

from detectors.events import COLUMNS_BY_NAME
from monitor.dlq_record import printable, readable_record
from monitor.wire import Decoder
from tests.support.letters import event_bytes
from tests.support.malformed import KINDS

RECORDS = {kind: raw for kind, (_, raw) in KINDS.items() if raw}


def lines(raw: bytes, *, path: str = "$", message: str = "") -> list[str]:
    return [line.plain for line in readable_record(raw, path=path, message=message)]


def marked(shown: list[str]) -> list[str]:
    """What the marks point at: the line, or the text at and after the caret."""
    found = [line.removesuffix("  <-- here").strip() for line in shown if line.endswith("<-- here")]
    for above, line in pairwise(shown):
        if line.strip() == "^-- here":
            found.append(above[line.index("^") :])
    return found


@pytest.mark.parametrize(
    ("changes", "path", "expected"),
    [
        ({"time": "soon"}, "$.time", '"time": "soon",'),
        ({"account": {"created_at": 1}}, "$.account", '"account": {'),
        ({"account": {"created_at": True, "tier": "x"}}, "$.account.created_at", "true"),
        ({"client": []}, "$.client", '"client": [],'),
        ({}, "$.generation.request_id", "{"),
        ({"generation": {"guard": {"categories": [1]}}}, "$.generation.guard.categories[0]", "1"),
        ({"share": {"tags": [1, 2]}}, "$.share.tags[...]", '"tags": ['),
        ({"time": 10**30}, "$.time", f'"time": {10**30},'),
    ],
)
def test_the_json_path_is_marked(changes: dict[str, object], path: str, expected: str) -> None:
    """Where it leads nowhere, as for a missing field, the part where it ends."""
    (found,) = marked(lines(event_bytes(**changes), path=path))
    assert expected in found


def test_values_are_shown_as_they_were_written() -> None:
    raw = (
        b'{"a": 1e400, "b": 1.10, "a": -0, "c": "\\u00e9\\n", "d": [], "e": {}, "f": [{"g": null}]}'
    )
    assert lines(raw, path="$.b") == [
        "{",
        '  "a": 1e400,',
        '  "b": 1.10,  <-- here',
        '  "a": -0,',
        '  "c": "é\\n",',
        '  "d": [],',
        '  "e": {},',
        '  "f": [',
        "    {",
        '      "g": null',
        "    }",
        "  ]",
        "}",
    ]


@pytest.mark.parametrize("kind", RECORDS)
def test_every_malformed_record_is_shown(kind: str) -> None:
    """Within bounds, with nothing but printable characters, and what is wrong marked."""
    raw = RECORDS[kind]
    (dead,) = Decoder(COLUMNS_BY_NAME).decode("t", [raw], [0], [1_780_000_000_000]).dead
    shown = readable_record(raw[:65_536], path=dead.path, message=dead.message)
    plain = [line.plain for line in shown]
    assert 0 < len(shown) <= 201
    assert all(line.isprintable() for line in plain)
    assert max(map(len, plain)) < 700
    whole = kind in {"cut short", "1 MB string", "nested bomb", "array bomb"}
    assert len(marked(plain)) == (0 if whole else 1), plain
    assert any("red" in str(part.style) for line in shown for part in parts(line)) != whole


def parts(line: Text) -> list[Text]:
    return [line, *(Text("", style=span.style) for span in line.spans)]


@pytest.mark.parametrize(
    ("raw", "byte", "expected"),
    [
        (b'{"a": NaN}', 6, "NaN}"),
        (b"hello", 0, "hello"),
        ("{'\u00fc\u00fc': x}".encode(), 10, "}"),
        (b'{"a": "\n"}', 7, ""),
        (b'{"a": "\x1b[2J"}', 7, "\\u001b[2J"),
        (b'{"' + b"a" * 250 + b"\x00", 252, "\\u0000"),
    ],
)
def test_the_byte_that_is_wrong_is_marked(raw: bytes, byte: int, expected: str) -> None:
    message = f"JSON is malformed: invalid character (byte {byte})"
    (found,) = marked(lines(raw, message=message))
    assert found.startswith(expected)


def test_what_is_no_text_is_hexadecimal_with_the_first_wrong_byte_marked() -> None:
    raw = bytes(range(0x40, 0x60)) + b"\xff\xfe" + b"\x1b[31m"
    shown = lines(raw)
    assert shown[0] == (
        "00000000  40 41 42 43 44 45 46 47 48 49 4a 4b 4c 4d 4e 4f  @ABCDEFGHIJKLMNO"
    )
    assert marked(shown) == [shown[2].removesuffix("  <-- here")]
    assert "ff fe 1b 5b 33 31 6d" in shown[2]
    assert shown[2].removesuffix("  <-- here").endswith("  ...[31m")


def test_a_long_record_is_cut_and_says_so() -> None:
    shown = lines(b"[" + b"1," * 999 + b"1]")
    assert len(shown) == 201
    assert shown[-1] == "... 802 more lines: --raw writes all bytes"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred", "\\u001b[31mred"),
        ("\x9b31m", "\\u009b31m"),
        ("user\u202egnp.exe", "user\\u202egnp.exe"),
        ("a\u2028b\ud800", "a\\u2028b\\ud800"),
        ("Zoë 你好 🙂", "Zoë 你好 🙂"),
    ],
)
def test_nothing_reaches_the_terminal_that_it_would_obey(text: str, expected: str) -> None:
    assert printable(text) == expected
