"""A folder of models, each under its id, and which of them are in use.

``roles.json`` names the champion and the challenger and holds the history of both; it is replaced
as a whole, so that a reader sees either the old or the new roles.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from monitor.models.card import Card, model_id
from monitor.models.errors import ModelError
from monitor.models.files import ARRAYS, CARD, SIGNATURE, read_card

__all__ = ["ROLES", "Change", "Entry", "Registry", "Role", "Roles"]

Role: TypeAlias = Literal["champion", "challenger"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
_ROLES_FILE: Final = "roles.json"
ModelId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Change(_Strict):
    """A role was given from one model to another (None: to nobody)."""

    at: datetime
    role: Role
    before: ModelId | None
    after: ModelId | None


class Roles(_Strict):
    """``roles.json``."""

    format: Literal[1] = 1
    champion: ModelId | None = None
    challenger: ModelId | None = None
    history: tuple[Change, ...] = ()

    def holder(self, role: Role) -> str | None:
        """The model that has a role."""
        return self.champion if role == "champion" else self.challenger


@dataclass(frozen=True, slots=True)
class Entry:
    """A model in the registry."""

    model_id: str
    folder: Path
    card: Card
    signed: bool


class Registry:
    """The models in a folder, which is made with the first of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, source: Path) -> str:
        """Copy the model in a folder into the registry; returns its id.

        Raises:
            ModelError: there is no model in it.
        """
        _, card = read_card(source)
        identity = model_id(card)
        target = self.folder / identity
        if target.is_dir():
            return identity
        self.folder.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=".adding-", dir=self.folder))
        try:
            for name in (CARD, ARRAYS, SIGNATURE):
                if (source / name).is_file():
                    shutil.copyfile(source / name, staged / name)
            staged.chmod(0o755)
            staged.rename(target)
        except OSError as error:
            shutil.rmtree(staged, ignore_errors=True)
            raise ModelError(f"{source}: it cannot be copied: {error}") from error
        return identity

    def entries(self) -> list[Entry]:
        """All models, those with the newest data first; what is damaged is left out."""
        found = []
        for card in self.folder.glob(f"*/{CARD}"):
            try:
                content, data = read_card(card.parent)
            except ModelError:
                continue
            if model_id(data) == card.parent.name:
                signed = (card.parent / SIGNATURE).is_file()
                found.append(Entry(card.parent.name, card.parent, content, signed))
        return sorted(found, key=lambda entry: (-entry.card.data.last_ms, entry.model_id))

    def entry(self, prefix: str) -> Entry:
        """The model whose id begins so; ``champion`` and ``challenger`` name who has the role.

        Raises:
            ModelError: there is none, or more than one.
        """
        if prefix in ROLES:
            holder = self.roles().holder(prefix)
            if holder is None:
                raise ModelError(f"nobody is {prefix}; floodwatch model promote gives a role")
            prefix = holder
        found = [entry for entry in self.entries() if entry.model_id.startswith(prefix)]
        if len(found) != 1 or not prefix:
            known = ", ".join(entry.model_id for entry in found or self.entries()) or "none"
            kind = "more than one" if len(found) > 1 else "no"
            raise ModelError(f"{kind} model begins with {prefix!r} in {self.folder}: {known}")
        return found[0]

    def folder_of(self, identity: str) -> Path:
        """Where the model of an id is, if it is there."""
        return self.folder / identity

    def roles(self) -> Roles:
        """Who has which role.

        Raises:
            ModelError: the file is damaged.
        """
        path = self.folder / _ROLES_FILE
        try:
            return Roles.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return Roles()
        except (OSError, ValidationError) as error:
            raise ModelError(f"{path} cannot be read: {error}") from error

    def promote(self, identity: str | None, role: Role, now: datetime | None = None) -> Change:
        """Give a role to a model (None: to nobody).

        A challenger that becomes champion is no longer challenger.
        """
        roles = self.roles()
        change = Change(
            at=now or datetime.now(UTC), role=role, before=roles.holder(role), after=identity
        )
        champion = identity if role == "champion" else roles.champion
        challenger = identity if role == "challenger" else roles.challenger
        if role == "champion" and challenger == identity:
            challenger = None
        history = (*roles.history, change)
        self._write(Roles(champion=champion, challenger=challenger, history=history))
        return change

    def rollback(self, now: datetime | None = None) -> Change:
        """Make that model champion which was it before.

        Raises:
            ModelError: there was none, or it is gone.
        """
        roles = self.roles()
        earlier = [
            change.before
            for change in roles.history
            if change.role == "champion" and change.after == roles.champion
        ]
        if not earlier or earlier[-1] is None:
            raise ModelError("no model was champion before this one; nothing was changed")
        return self.promote(self.entry(earlier[-1]).model_id, "champion", now)

    def _write(self, roles: Roles) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / _ROLES_FILE
        staged = path.with_name(f".{_ROLES_FILE}.{os.getpid()}")
        text = json.dumps(roles.model_dump(mode="json"), indent=2) + "\n"
        staged.write_text(text, encoding="utf-8")
        staged.replace(path)
