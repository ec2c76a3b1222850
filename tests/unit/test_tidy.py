"""Keeps the repository tidy: what neither the linter nor the type checker looks at."""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]

_MAX_FILE_LINES: Final = 500
_MAX_FUNCTION_LINES: Final = 60
_SKIPPED_FOLDERS: Final = frozenset({".venv", ".venv-bench", "build", "dist", "__pycache__"})
_TEXT_SUFFIXES: Final = frozenset(
    {"", ".json", ".lock", ".md", ".py", ".sh", ".sql", ".toml", ".txt", ".xml", ".yaml", ".yml"}
)
_INSTALLING: Final = ("requirements", "tools", ".ci", "Dockerfile", "Makefile", "pyproject.toml")

_LINK: Final = re.compile(r"\]\(\s*([^)\s]+)\s*\)|<img [^>]*src=\"([^\"]+)\"")
_HEADING: Final = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_FENCED: Final = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_MACHINE_PATH: Final = re.compile(r"(?<![\w.:])/(?:work|root|home|Users)/\w")
_REGISTRY_HOST: Final = re.compile(
    r"\b(?:pypi|pythonhosted|npmjs|crates|docker|repo1?\.maven(?:\.apache)?)\.(?:org|com|io)\b"
)
_UNFINISHED: Final = re.compile(r"\b(?:T[O]DO|F[I]XME|X[X]X)\b")
_ASSERTS: Final = re.compile(r"\bassert|raises|fail\(|\bexpect|\bcheck_|\bwait_until\(")


def test_no_file_is_longer_than_one_can_hold_in_mind() -> None:
    """At most 500 lines; most have 50 to 300."""
    found = [
        f"{path}: {lines} lines"
        for path in _python_files()
        if (lines := _read(path).count("\n")) > _MAX_FILE_LINES
    ]
    assert not found, "\n".join(found)


def test_functions_fit_a_screen() -> None:
    """At most 60 lines, decorators and docstring apart."""
    found = [
        f"{path}:{node.lineno} {node.name}: {lines} lines"
        for path in _python_files()
        for node in _functions(path)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > _MAX_FUNCTION_LINES
    ]
    assert not found, "\n".join(found)


def test_modules_of_the_product_say_what_they_are_for_and_what_they_offer() -> None:
    """A docstring, and ``__all__`` wherever something is defined."""
    found = []
    for path in _python_files("detectors", "monitor"):
        tree = _tree(path)
        if not ast.get_docstring(tree):
            found.append(f"{path}: no docstring")
        # Neither the docstring nor `from __future__` defines anything.
        body = [node for node in tree.body[1:] if getattr(node, "module", "") != "__future__"]
        assigned = {name for node in body for name in _assigned_names(node)}
        if body and "__all__" not in assigned and path.name != "__main__.py":
            found.append(f"{path}: no __all__")
    assert not found, "\n".join(found)


def test_the_core_imports_only_what_it_may() -> None:
    """Of what is not in the standard library: numpy, numba, polars and itself.

    An allow-list; the contract of import-linter forbids by name, and sees indirect imports.
    """
    allowed = {"detectors", "numba", "numpy", "polars", *sys.stdlib_module_names}
    found = [
        f"{path}: {name}"
        for path in _python_files("detectors")
        for name in _imported_packages(path)
        if name not in allowed
    ]
    assert not found, "\n".join(found)


def test_every_test_can_fail() -> None:
    """A test that asserts nothing says nothing."""
    found = [
        f"{path}:{node.lineno} {node.name}"
        for path in _python_files("tests")
        for node in _functions(path)
        if node.name.startswith("test_") and not _ASSERTS.search(ast.unparse(node))
    ]
    assert not found, "\n".join(found)


def test_nothing_names_a_path_of_one_machine() -> None:
    """Neither the usual places of checkouts and homes, nor where this one lies."""
    here = str(ROOT) + os.sep
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path, number, line in _lines()
        if here in line or _MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join(found)


def test_where_packages_come_from_is_for_the_user_to_say() -> None:
    """No registry's host anywhere, and no address at all in what installs."""
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path, number, line in _lines()
        if _REGISTRY_HOST.search(line)
        or (path.parts[0] in _INSTALLING and re.search(r"https?://(?!127\.)[\w.]+", line))
    ]
    assert not found, "\n".join(found)


def test_nothing_is_left_for_later() -> None:
    """What is not done stands in the tracker, not in the code."""
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path, number, line in _lines()
        if _UNFINISHED.search(line)
    ]
    assert not found, "\n".join(found)


def test_links_lead_somewhere() -> None:
    """Every relative link in the documentation: the file, and the heading where it names one."""
    found = [
        f"{page}: {link}"
        for page in _pages()
        for link in _links(page)
        if not link.startswith(("http:", "https:", "mailto:")) and not _resolves(page, link)
    ]
    assert not found, "\n".join(found)


def test_every_page_and_picture_is_linked_from_another_page() -> None:
    """A page that nobody finds is not documentation."""
    linked = {
        os.path.normpath(page.parent / link.partition("#")[0])
        for page in _pages()
        for link in _links(page)
    }
    offered = [path for path in _files() if path.parts[0] == "docs"]
    offered = [path for path in offered if path.suffix == ".png" or path.parent == Path("docs")]
    found = [str(path) for path in offered if str(path) not in linked]
    assert not found, "\n".join(found)


def test_the_changelog_speaks_of_this_version() -> None:
    """It has the version of pyproject.toml, or says what is unreleased."""
    version = re.search(r'^version = "(.+)"$', _read(Path("pyproject.toml")), re.MULTILINE)
    assert version is not None
    headings = _HEADING.findall(_read(Path("CHANGELOG.md")))
    assert any(version[1] in heading or "Unreleased" in heading for heading in headings)


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("see /" + "root/notes", _MACHINE_PATH),
        ("from py" + "pi.org", _REGISTRY_HOST),
        ("# TO" + "DO later", _UNFINISHED),
    ],
)
def test_the_patterns_find_what_they_are_for(line: str, pattern: re.Pattern[str]) -> None:
    """Otherwise the tests above pass whatever there is."""
    assert pattern.search(line)


@cache
def _files() -> list[Path]:
    """The files of the repository, relative to its root; with or without git."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name not in _SKIPPED_FOLDERS and (name == ".ci" or not name.startswith("."))
        ]
        found += [(Path(folder) / name).relative_to(ROOT) for name in names]
    return sorted(found)


def _python_files(*folders: str) -> list[Path]:
    paths = [path for path in _files() if path.suffix == ".py"]
    return [path for path in paths if not folders or path.parts[0] in folders]


def _pages() -> list[Path]:
    return [path for path in _files() if path.suffix == ".md"]


@cache
def _read(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(_read(path), filename=str(path))


def _lines() -> Iterator[tuple[Path, int, str]]:
    for path in _files():
        if path.suffix in _TEXT_SUFFIXES:
            for number, line in enumerate(_read(path).splitlines(), 1):
                yield path, number, line


def _functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _assigned_names(node: ast.stmt) -> Iterator[str]:
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    yield from (target.id for target in targets if isinstance(target, ast.Name))


def _imported_packages(path: Path) -> Iterator[str]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "a relative import" if node.level else (node.module or "").partition(".")[0]


def _links(page: Path) -> list[str]:
    text = _FENCED.sub("", _read(page))
    return [link or image for link, image in _LINK.findall(text)]


def _resolves(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not (ROOT / target).exists():
        return False
    return not anchor or anchor in {_slug(text) for text in _HEADING.findall(_read(target))}


def _slug(heading: str) -> str:
    """The anchor of a heading, as the usual hosts of Markdown make it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
