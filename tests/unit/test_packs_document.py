"""YAML with lines: what is read, what is refused, and where each refusal points."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.packs.document import Document, label, read_document
from monitor.packs.problems import PackProblems


def _read(folder: Path, text: str | bytes) -> Document:
    path = folder / "rules.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path, "rules.yaml")


def _refused(folder: Path, text: str | bytes) -> list[str]:
    with pytest.raises(PackProblems) as raised:
        _read(folder, text)
    return str(raised.value).splitlines()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("NO", "NO"),
        ("on", "on"),
        ("yes", "yes"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("10m", "10m"),
        ("true", True),
        ("'true'", "true"),
        ("~", None),
        ("", None),
        ("-3", -3),
        ("010", 10),
        ("0.5", 0.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1_000", "1_000"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(tmp_path: Path, written: str, meant: object) -> None:
    """Norway stays a country, and a duration stays text."""
    content = _read(tmp_path, f"key: {written}\n").content
    assert content == {"key": meant}
    assert isinstance(content, dict)
    assert type(content["key"]) is type(meant)


def test_every_entry_knows_its_line(tmp_path: Path) -> None:
    document = _read(tmp_path, "rules:\n  - id: a\n    when: >-\n      x > 1\n  - {id: b}\n")
    assert document.line(("rules", 0, "id")) == 2
    assert document.line(("rules", 0, "when")) == 3
    assert document.line(("rules", 1, "id")) == 5
    assert document.line(("rules", 1, "missing", "deeper")) == 5, "the nearest that exists"
    assert document.line(("elsewhere",)) == 1


def test_paths_are_shown_as_one_would_write_them() -> None:
    assert label(("rules", 3, "cases", 0, "name")) == "rules[3].cases[0].name"
    assert label(()) == ""


def test_duplicate_keys_are_refused_with_both_lines(tmp_path: Path) -> None:
    """YAML parsers keep the last one silently: half of a rule would be gone."""
    assert _refused(tmp_path, "a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\na: 2\n") == [
        "rules.yaml:5: b.c: duplicate key, first given in line 3",
        "rules.yaml:6: a: duplicate key, first given in line 1",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &x [1]\nb: *x\n", "rules.yaml:2: aliases are not supported"),
        ("a: !!python/object:os.system x\n", "rules.yaml:1: a: tag"),
        ("a: !secret x\n", "rules.yaml:1: a: tag '!secret' is not supported"),
        ("1: x\n", "rules.yaml:1: keys must be plain words"),
        ("? [a]\n: x\n", "rules.yaml:1: keys must be plain words"),
        ("a: [1, 2\n", "rules.yaml:2: while parsing a flow sequence"),
        ("a: 1\nb: c: d\n", "rules.yaml:2: mapping values are not allowed here (column 5)"),
        ("a: 1\n\tb: 2\n", "rules.yaml:2: while scanning"),
        (b"a: 1\nb: \xff\n", "rules.yaml:2: is not UTF-8"),
        (b"a: \x00\n", "rules.yaml: is not YAML: unacceptable character"),
        ("--- 1\n--- 2\n", "rules.yaml:2: expected a single document"),
    ],
)
def test_refusals_say_where(tmp_path: Path, text: str | bytes, expected: str) -> None:
    assert _refused(tmp_path, text)[0].startswith(expected)


@pytest.mark.parametrize("depth", [40, 20_000])
def test_nested_bombs_are_refused(tmp_path: Path, depth: int) -> None:
    assert "deep" in _refused(tmp_path, "a: " + "[" * depth + "]" * depth)[0]


def test_files_are_bounded_and_have_to_exist(tmp_path: Path) -> None:
    assert "1000000 at most" in _refused(tmp_path, "#" * 1_000_001)[0]
    with pytest.raises(PackProblems, match="cannot be read: No such file"):
        read_document(tmp_path / "absent.yaml", "absent.yaml")
    with pytest.raises(PackProblems, match="cannot be read: Is a directory"):
        read_document(tmp_path, "folder")
