"""Makes a virtual environment that is exactly one lock file, or resolves the lock files anew.

    python tools/environment.py make .venv requirements/dev.lock
    python tools/environment.py lock [--upgrade]

Runs before anything is installed: standard library only. Every download is checked against the
hashes of the lock. uv installs, because it takes seconds where pip takes a minute; pip brings uv,
and does all of it where uv cannot be had or fails. Both use the caches and the index that the
user's pip is configured for. Stamps in the environment tell what it was made from: where they
still hold there is nothing to do, and no network is used.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import re
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["SetupError", "lock", "main", "make", "uv_settings"]

ROOT: Final = Path(__file__).resolve().parents[1]
REQUIREMENTS: Final = ROOT / "requirements"

# pip's options, and the variables by which uv is told the same.
UV_VARIABLES: Final = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}


class SetupError(Exception):
    """The environment could not be made; the message says what to do."""


def make(folder: Path, lock_file: Path) -> None:
    """Make the virtual environment ``folder``, or mend it, to hold the lock and the project.

    Raises SetupError where Python lacks venv or the packages cannot be installed.
    """
    if not _is_usable(folder):
        print(f"Making {folder} with Python {_version()}", flush=True)
        _create(folder)
    packages = _digest(lock_file, REQUIREMENTS / "installer.lock")
    with _stamped(folder / "stamp-packages", packages) as wanting:
        if wanting:
            print(f"Installing what {lock_file.name} names", flush=True)
            _install_packages(folder, lock_file)
    # An environment that is made equal to the lock has lost the project: hence both digests.
    project = f"{packages} {_digest(ROOT / 'pyproject.toml')}"
    with _stamped(folder / "stamp-project", project) as wanting:
        if wanting:
            _install_project(folder)


def lock(*, upgrade: bool) -> None:
    """Resolve what pyproject.toml asks for, for every Python and platform, into the lock files.

    Versions that are locked stay, unless ``upgrade`` is set or they no longer fit. Raises
    SetupError where uv is missing or finds no solution.
    """
    with (ROOT / "pyproject.toml").open("rb") as file:
        document = tomllib.load(file)
    product = document["project"]["dependencies"]
    extras = document["project"]["optional-dependencies"]
    build = document["build-system"]["requires"]
    _lock("installer", ["uv"], upgrade=upgrade)
    _lock("build", build, upgrade=upgrade)
    _lock("product", product, upgrade=upgrade)
    # Tests run what ships. The peers of the benchmark narrow some versions: they get their own.
    shipped = ("product", "build")
    # `dev` names the extra "dashboards" as pip wants it, by our own name: no index knows that.
    dev = [line for line in extras["dev"] if not line.startswith("floodwatch[")]
    dev += extras["dashboards"]
    _lock("dev", [*product, *build, *dev], constraints=shipped, upgrade=upgrade)
    _lock("bench", [*product, *build, *extras["bench"]], upgrade=upgrade)


def uv_settings(pip_config: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that make uv use what pip is configured for; those already set stay.

    ``pip_config`` is the output of ``pip config list``: lines such as
    ``global.index-url='https://…'``. pip lets its ``install`` section win over ``global``, and
    the environment (``:env:``) over both.
    """
    found: dict[tuple[int, str], str] = {}
    rank = {"global": 0, "install": 1, ":env:": 2}
    for section, option, value in re.findall(
        r"^(\S+)\.([a-z-]+)=('.*'|\".*\")$", pip_config, re.MULTILINE
    ):
        if section in rank and option in UV_VARIABLES:
            found[rank[section], UV_VARIABLES[option]] = str(ast.literal_eval(value))
    # Corporate certificates lie in the system's store, which uv does not read of itself.
    settings = {"UV_SYSTEM_CERTS": "true"}
    for (_, variable), value in sorted(found.items()):
        separator = "," if variable == "UV_FIND_LINKS" else " "
        settings[variable] = separator.join(value.split())
    return {name: value for name, value in settings.items() if name not in environment}


def _digest(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@contextmanager
def _stamped(stamp: Path, inputs: str) -> Iterator[bool]:
    """Give whether there is work to do; the stamp names its inputs only once it is done."""
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == inputs:
        yield False
        return
    stamp.unlink(missing_ok=True)
    yield True
    stamp.write_text(inputs, encoding="utf-8")


def _version() -> str:
    return ".".join(str(part) for part in sys.version_info[:3])


def _is_usable(folder: Path) -> bool:
    """Whether this Python made it, and here: the scripts of one that was moved do not start."""
    settings, script = folder / "pyvenv.cfg", folder / "bin" / "pip"
    if not settings.is_file() or not script.is_file():
        return False
    found = re.search(r"^version(?:_info)? *= *(\S+)", settings.read_text("utf-8"), re.MULTILINE)
    of_this_python = found is not None and found[1].startswith(_version())
    return of_this_python and f"{folder.resolve()}/bin/" in script.read_text("utf-8")


def _create(folder: Path) -> None:
    command = [sys.executable, "-m", "venv", "--clear", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SetupError(
            f"{' '.join(command)} failed: {(result.stdout + result.stderr).strip()}\n"
            "Python needs its venv module and pip for it (Debian, Ubuntu: python3-venv)."
        )


def _install_packages(folder: Path, lock_file: Path) -> None:
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    pip += ["--require-hashes", "--requirement"]
    # Hashes make it safe to look at every index, as pip does.
    uv = [str(folder / "bin" / "uv"), "pip", "sync", "--quiet", "--python", str(python)]
    uv += ["--require-hashes", "--index-strategy", "unsafe-best-match", str(lock_file)]
    if _run([*pip, str(REQUIREMENTS / "installer.lock")]) and _run(uv, _uv_environment(python)):
        return
    print("uv could not install them: pip does, which takes a minute", flush=True)
    if not _run([*pip, str(lock_file)]):
        raise SetupError(
            "The packages could not be installed; what pip said stands above. Is the package "
            "index reachable? `python3 -m pip config list` shows what pip is configured for."
        )


def _install_project(folder: Path) -> None:
    """Install the project in place; what builds it is in the environment, so without network."""
    command = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    command += ["install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
    if not _run(command):
        raise SetupError("The project could not be installed; what pip said stands above.")


def _uv_environment(python: Path) -> dict[str, str]:
    command = [str(python), "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {**os.environ, **uv_settings(listing, os.environ)}


def _run(command: list[str], environment: Mapping[str, str] | None = None) -> bool:
    return subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode == 0


def _lock(
    name: str, requirements: list[str], *, upgrade: bool, constraints: tuple[str, ...] = ()
) -> None:
    python = Path(sys.executable)
    command = [str(python.with_name("uv")), "pip", "compile", "--quiet", "-"]
    command += ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate"]
    command += ["--custom-compile-command", "make lock", "-o", f"requirements/{name}.lock"]
    for constraint in constraints:
        command += ["--constraints", f"requirements/{constraint}.lock"]
    if upgrade:
        command.append("--upgrade")
    try:
        result = subprocess.run(
            command,
            input="\n".join(requirements),
            text=True,
            env=_uv_environment(python),
            cwd=ROOT,
            check=False,
        )
    except FileNotFoundError as error:
        raise SetupError(f"{command[0]} is missing: `make lock` installs it") from error
    if result.returncode != 0:
        raise SetupError(f"requirements/{name}.lock was not written: what uv said stands above")


def main() -> int:
    """Run the command line: 0, or 1 with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python tools/environment.py")
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="make or mend an environment")
    making.add_argument("folder", type=Path)
    making.add_argument("lock_file", type=Path)
    locking = commands.add_parser("lock", help="resolve the lock files anew")
    locking.add_argument("--upgrade", action="store_true", help="take the newest versions")
    arguments = parser.parse_args()
    try:
        if arguments.command == "make":
            make(arguments.folder, arguments.lock_file)
        else:
            lock(upgrade=arguments.upgrade)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
