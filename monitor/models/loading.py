"""Models for the stages, out of a registry; new roles are noticed while the program runs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from detectors.anomaly import ModelPair, pair_name
from detectors.errors import StateError
from monitor.models.errors import ModelError
from monitor.models.files import load_model
from monitor.models.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from detectors.anomaly import AnomalyModel
    from detectors.compiled import CompiledPack

__all__ = ["RegistryModels"]

_log = logging.getLogger(__name__)


class RegistryModels:
    """The pair that a registry's roles name, loaded for the columns of ``pack``.

    A model that cannot be used is refused when the program starts; later the pair that is in use
    stays, and ``problem`` says what is wrong with the new one.
    """

    def __init__(self, folder: Path, pack: CompiledPack, public_key: bytes | None = None) -> None:
        self._registry = Registry(folder)
        self._pack = pack
        self._public_key = public_key
        self._loaded: dict[str, AnomalyModel] = {}
        self.problem = ""
        self._current = self._pair(*self._holders())

    @property
    def current(self) -> ModelPair:
        """See ``Models``."""
        return self._current

    def named(self, name: str) -> ModelPair:
        """See ``Models``."""
        if name == self._current.name:
            return self._current
        try:
            champion, _, challenger = name.partition("+")
            return self._pair(champion or None, challenger or None)
        except ModelError as error:
            raise StateError(
                f"it was made with model {name}, which cannot be used here: {error}",
                where="models",
                hint="put that model into the registry (models.registry), or begin without state",
            ) from error

    def refresh(self) -> bool:
        """Look at the roles again; whether another pair is current now. May take a second."""
        try:
            holders = self._holders()
            if pair_name(*holders) == self._current.name and not self.problem:
                return False
            pair = self._pair(*holders)
        except ModelError as error:
            if str(error) != self.problem:
                _log.error("the model in use stays: %s", error)
            self.problem = str(error)
            return False
        self.problem = ""
        changed = pair.name != self._current.name
        self._current = pair
        return changed

    def _holders(self) -> tuple[str | None, str | None]:
        roles = self._registry.roles()
        return roles.champion, roles.challenger

    def _pair(self, champion: str | None, challenger: str | None) -> ModelPair:
        return ModelPair(self._model(champion), self._model(challenger))

    def _model(self, identity: str | None) -> AnomalyModel | None:
        if identity is None:
            return None
        if identity not in self._loaded:
            folder = self._registry.folder_of(identity)
            model = load_model(folder, self._pack, self._public_key)
            if model.model_id != identity:
                raise ModelError(f"{folder} holds the model {model.model_id}: its card was changed")
            self._loaded[identity] = model
        return self._loaded[identity]
