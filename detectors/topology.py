"""The chain of stages, described once and run by every runner.

A stage made here holds the state of one partition.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from detectors.anomaly import FixedModels, Models
from detectors.group_stage import GroupStage
from detectors.shared_stage import SharedStage
from detectors.stages import UserStage
from detectors.state.blocks import DEFAULT_BLOCK_ROWS

if TYPE_CHECKING:
    from detectors.compiled import CompiledPack

__all__ = ["DEFAULT_MAX_SHARED_KEYS", "DEFAULT_MAX_USERS", "Topology"]

DEFAULT_MAX_USERS: Final = 262_144
DEFAULT_MAX_SHARED_KEYS: Final = 262_144
DEFAULT_MAX_GROUP_ACTORS: Final = 131_072


@dataclass(frozen=True, slots=True)
class Topology:
    """Makes the stages of a partition.

    ``max_users`` and ``max_shared_keys`` bound the keys of each partition; ``block_rows`` of
    them, a power of two, make a block of a checkpoint; ``max_group_actors`` bounds
    actors, pairs and keys of groups. A new stage scores with no model until it
    is told to use one of ``models``.
    """

    pack: CompiledPack
    max_users: int = DEFAULT_MAX_USERS
    block_rows: int = DEFAULT_BLOCK_ROWS
    models: Models = field(default_factory=FixedModels)
    max_shared_keys: int = DEFAULT_MAX_SHARED_KEYS
    max_group_actors: int = DEFAULT_MAX_GROUP_ACTORS

    def user_stage(self) -> UserStage:
        """A new, empty stage for one partition."""
        return UserStage(self.pack, self.max_users, self.block_rows, self.models)

    def shared_stage(self) -> SharedStage | None:
        """A new, empty stage of shared keys for one partition; None where the pack has none."""
        if self.pack.shared is None:
            return None
        return SharedStage(self.pack, self.max_shared_keys, self.block_rows)

    def group_stage(self) -> GroupStage | None:
        """A new, empty stage of groups; None where the pack has no shared keys."""
        if self.pack.shared is None:
            return None
        return GroupStage(self.pack, self.max_group_actors, self.block_rows)
