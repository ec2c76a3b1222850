"""Where settings come from: one file, environment variables and flags, read once.

Precedence, highest first: flags, ``FLOODWATCH_`` environment variables (sections joined by two
underscores, ``FLOODWATCH_KAFKA__BROKERS``), the configuration file (YAML or TOML, given by
``--config`` or ``FLOODWATCH_CONFIG``), defaults. Whatever cannot be used is reported with its key,
where it came from, what is allowed and, for unknown keys, the nearest known one.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource, SettingsError

from detectors.errors import near_match
from monitor.config import DELIMITER, PREFIX, Settings, environment_name, setting_keys

__all__ = ["CONFIG_VARIABLE", "ConfigurationError", "load_settings"]

CONFIG_VARIABLE: Final = PREFIX + "CONFIG"

# Kubernetes gives every pod variables such as FLOODWATCH_PORT=tcp://10.0.0.1:80 for a service
# called "floodwatch"; our tests have FLOODWATCH_TEST_... . Neither are settings.
_NOT_OURS: Final = re.compile(r"_SERVICE_(HOST|PORT)|_PORT(_\d+_(TCP|UDP|SCTP))|^FLOODWATCH_TEST_")


class ConfigurationError(ValueError):
    """Settings that cannot be used; ``problems`` has one line for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class _Layer:
    """What one source says, and how it calls a key."""

    source: str
    values: dict[str, Any]
    environment: bool = False

    def names(self, path: tuple[str, ...]) -> bool:
        """Whether this source gave the value at ``path`` (or something inside or above it)."""
        values: object = self.values
        for part in path:
            if not isinstance(values, dict):
                return True
            if part not in values:
                return False
            values = values[part]
        return True

    def shown(self, path: tuple[str, ...]) -> str:
        key = environment_name(path) if self.environment else ".".join(path)
        return f"{key} (from {self.source})"


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    config: Path | None = None,
    environ: Mapping[str, str],
) -> Settings:
    """Settings from flags (nested by section; None means not given), environment and file.

    ``environ`` is read here and nowhere else in the program.

    Raises:
        ConfigurationError: the file cannot be read, or a key or value cannot be used.
    """
    if config is None and environ.get(CONFIG_VARIABLE):
        config = Path(environ[CONFIG_VARIABLE])
    problems = list(_unknown_variables(environ))
    layers = [
        _Layer("the command line", _given(flags or {})),
        _Layer("the environment", _environment(environ), environment=True),
    ]
    if config is not None:
        layers.append(_Layer(str(config), _file(config)))
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged = _merge(merged, layer.values)
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        problems += [_problem(details, layers) for details in error.errors()]
        raise ConfigurationError(problems) from None
    if problems:
        raise ConfigurationError(problems)
    return settings


def _environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """What the variables say, nested by section; the library does the taking apart."""

    class Source(EnvSettingsSource):
        def _load_env_vars(self) -> Mapping[str, str | None]:
            return {name.lower(): value for name, value in environ.items()}

    try:
        values = Source(Settings)()
    except SettingsError as error:
        problem = f"{error} (from the environment): a whole section must be JSON: {error.__cause__}"
        raise ConfigurationError([problem]) from error
    return {name: value for name, value in values.items() if name in Settings.model_fields}


def _file(path: Path) -> dict[str, Any]:
    suffix = path.suffix.lower()
    if suffix not in {".yaml", ".yml", ".toml"}:
        raise ConfigurationError([f"{path}: a configuration file ends in .yaml, .yml or .toml"])
    try:
        text = path.read_text(encoding="utf-8")
        values: object = tomllib.loads(text) if suffix == ".toml" else yaml.safe_load(text)
    except FileNotFoundError:
        raise ConfigurationError([f"{path}: there is no such configuration file"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{path}: cannot be read: {error}"]) from error
    except (yaml.YAMLError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError([f"{path}: {' '.join(str(error).split())}"]) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigurationError(
            [f"{path}: the file must hold keys and values, not {type(values).__name__}"]
        )
    return {str(name): value for name, value in values.items()}


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Flags without those that were not given."""
    given: dict[str, Any] = {}
    for name, value in flags.items():
        if isinstance(value, Mapping):
            section = _given(value)
            if section:
                given[name] = section
        elif value is not None:
            given[name] = value
    return given


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        under = merged.get(name)
        merged[name] = (
            _merge(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
        )
    return merged


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Variables that look like settings but are none (unknown keys of a section: see pydantic).

    A name without two underscores is refused only if it is nearly a setting: other things, such
    as our own tests, have variables with the same prefix.
    """
    known = {environment_name(path) for path, _ in setting_keys()}
    for name in sorted(environ):
        upper = name.upper()
        if not upper.startswith(PREFIX) or upper in known or upper == CONFIG_VARIABLE:
            continue
        if _NOT_OURS.search(upper) or environ[name].startswith(("tcp://", "udp://", "sctp://")):
            continue
        section, delimiter, _ = upper.removeprefix(PREFIX).partition(DELIMITER)
        if delimiter and section.lower() in Settings.model_fields:
            continue
        hint = _nearly(upper, known)
        if delimiter or hint:
            yield f"{name} (from the environment): there is no such setting" + (
                hint and f"; {hint}"
            )


def _nearly(name: str, known: set[str]) -> str:
    """A hint if ``name`` is a known one but for a letter or for single underscores."""
    collapsed = {re.sub("_+", "_", candidate): candidate for candidate in sorted(known)}
    if name in collapsed:
        return f"did you mean {collapsed[name]!r}?"
    close = near_match(name.removeprefix(PREFIX), [k.removeprefix(PREFIX) for k in known])
    return close.replace("'", f"'{PREFIX}", 1)


def _problem(details: ErrorDetails, layers: list[_Layer]) -> str:
    """One line for one validation error: the key, its source, what is wrong, what is allowed."""
    path = tuple(str(part) for part in details["loc"])
    layer = next(layer for layer in layers if layer.names(path))
    if details["type"] == "extra_forbidden":
        siblings = [known[-1] for known, _ in setting_keys() if known[:-1] == path[:-1]]
        hint = near_match(path[-1], siblings) or f"known here: {', '.join(siblings)}"
        return f"{layer.shown(path)}: there is no such setting; {hint}"
    given = details["input"]
    if details["type"] in {"model_type", "model_attributes_type"}:
        inside = ", ".join(known[-1] for known, _ in setting_keys() if known[:-1] == path)
        return f"{layer.shown(path)}: {given!r}: this is a section with the keys {inside}"
    message = details["msg"]
    return f"{layer.shown(path)}: {given!r}: {message[0].lower()}{message[1:]}{_allowed(path)}"


def _allowed(path: tuple[str, ...]) -> str:
    """What the key is for, as a reminder of what is allowed."""
    descriptions = {known: field.description for known, field in setting_keys()}
    return f". {descriptions[path]}" if descriptions.get(path) else ""
