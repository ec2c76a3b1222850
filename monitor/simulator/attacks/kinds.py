"""All kinds of attacks, as a scenario file can name them."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

from pydantic import Field

from monitor.simulator.attacks.accounts import AccountTakeover, LimitEvasion, SybilFarm
from monitor.simulator.attacks.attack import Attack
from monitor.simulator.attacks.coordinated import ReportBombing, SharingSwarm, TemplateCampaign
from monitor.simulator.attacks.generating import (
    BurstBot,
    CostAbuse,
    GuardProbing,
    LikenessCampaign,
    SlowDrip,
)
from monitor.simulator.attacks.mixed import NovelMix
from monitor.simulator.attacks.sharing import (
    ProvenanceStripping,
    Scrape,
    ShareAndDelete,
    ShareFlood,
)

__all__ = ["ATTACK_KINDS", "AnyAttack"]

AnyAttack: TypeAlias = Annotated[
    BurstBot
    | SlowDrip
    | GuardProbing
    | LikenessCampaign
    | ShareFlood
    | ProvenanceStripping
    | AccountTakeover
    | SybilFarm
    | TemplateCampaign
    | SharingSwarm
    | LimitEvasion
    | ShareAndDelete
    | Scrape
    | CostAbuse
    | ReportBombing
    | NovelMix,
    Field(discriminator="kind"),
]

ATTACK_KINDS: Final[dict[str, type[Attack]]] = {
    "burst-bot": BurstBot,
    "slow-drip": SlowDrip,
    "guard-probing": GuardProbing,
    "likeness-campaign": LikenessCampaign,
    "share-flood": ShareFlood,
    "provenance-stripping": ProvenanceStripping,
    "account-takeover": AccountTakeover,
    "sybil-farm": SybilFarm,
    "template-campaign": TemplateCampaign,
    "sharing-swarm": SharingSwarm,
    "limit-evasion": LimitEvasion,
    "share-and-delete": ShareAndDelete,
    "scrape": Scrape,
    "cost-abuse": CostAbuse,
    "report-bombing": ReportBombing,
    "novel-mix": NovelMix,
}
"""The attack classes by the name that scenario files use."""
