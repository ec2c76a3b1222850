"""The models that the settings name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from detectors.anomaly import FixedModels
from monitor.models.errors import ModelError
from monitor.models.loading import RegistryModels

if TYPE_CHECKING:
    from detectors.compiled import CompiledPack

__all__ = ["open_models", "read_key"]


def open_models(registry: str, public_key: str, pack: CompiledPack) -> RegistryModels | FixedModels:
    """The models of a registry (a folder, may be empty) for a pack; none without a folder.

    Raises:
        ModelError: the champion or the challenger cannot be used, or the key cannot be read.
    """
    if not registry:
        return FixedModels()
    return RegistryModels(Path(registry), pack, read_key(public_key))


def read_key(path: str) -> bytes | None:
    """The key in a file; None without a file.

    Raises:
        ModelError: it cannot be read.
    """
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; it should be a key (PEM)") from error
