"""The platform that is simulated: its plans, countries, models, channels and the words it uses.

Events carry small codes until they are written out: a code is an index into the tuple here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from detectors.events import EVENT_TYPES

__all__ = [
    "APP_VERSIONS",
    "C2PA_STATES",
    "CHANNELS",
    "COUNTRIES",
    "DIGITAL_SOURCE_TYPES",
    "FEEDBACK_KINDS",
    "GUARD_CATEGORIES",
    "GUARD_DECISIONS",
    "MODELS",
    "REASONS",
    "REGIONS",
    "RESOLUTIONS",
    "TIERS",
    "TYPE_CODES",
    "VERDICTS",
    "VISIBILITIES",
    "WATERMARKS",
    "Model",
    "Region",
    "Resolution",
    "code_of",
]


@dataclass(frozen=True, slots=True)
class Region:
    """People of one country and clock; ``nat_share`` of their phone sessions are behind NAT."""

    country: str
    utc_offset_h: float
    weight: float
    nat_share: float


@dataclass(frozen=True, slots=True)
class Model:
    """A video model: its price per second at 480p in credits, and its median latency."""

    name: str
    price: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class Resolution:
    """A video resolution and how many times the 480p price it costs."""

    name: str
    price_factor: float


TYPE_CODES: Final = {name: code for code, name in enumerate(EVENT_TYPES)}

TIERS: Final = ("free", "plus", "pro", "enterprise", "unverified")

REGIONS: Final = (
    Region("US", -5, 0.12, 0.35),
    Region("US", -6, 0.05, 0.35),
    Region("US", -8, 0.06, 0.35),
    Region("BR", -3, 0.09, 0.75),
    Region("MX", -6, 0.04, 0.75),
    Region("CO", -5, 0.02, 0.75),
    Region("GB", 0, 0.05, 0.45),
    Region("DE", 1, 0.05, 0.40),
    Region("FR", 1, 0.04, 0.40),
    Region("ES", 1, 0.03, 0.45),
    Region("PL", 1, 0.02, 0.50),
    Region("NG", 1, 0.03, 0.90),
    Region("EG", 2, 0.02, 0.85),
    Region("ZA", 2, 0.01, 0.75),
    Region("TR", 3, 0.03, 0.70),
    Region("KE", 3, 0.01, 0.90),
    Region("AE", 4, 0.01, 0.50),
    Region("PK", 5, 0.02, 0.85),
    Region("IN", 5.5, 0.13, 0.85),
    Region("ID", 7, 0.06, 0.85),
    Region("VN", 7, 0.02, 0.80),
    Region("PH", 8, 0.03, 0.85),
    Region("KR", 9, 0.02, 0.35),
    Region("JP", 9, 0.03, 0.35),
    Region("AU", 10, 0.01, 0.40),
)

COUNTRIES: Final = tuple(sorted({region.country for region in REGIONS}))

MODELS: Final = (
    Model("vista-turbo", 0.5, 9.0),
    Model("vista-2", 1.0, 26.0),
    Model("portrait-1", 1.2, 22.0),
    Model("cinema-1", 3.0, 55.0),
)

RESOLUTIONS: Final = (
    Resolution("480p", 1.0),
    Resolution("720p", 2.0),
    Resolution("1080p", 4.0),
    Resolution("2160p", 12.0),
)

CHANNELS: Final = ("feed", "message", "group", "link", "external")
VISIBILITIES: Final = ("private", "unlisted", "public")
C2PA_STATES: Final = ("trusted", "valid", "invalid", "missing", "stripped")
DIGITAL_SOURCE_TYPES: Final = (
    "trainedAlgorithmicMedia",
    "compositeWithTrainedAlgorithmicMedia",
)
WATERMARKS: Final = ("present", "missing", "damaged")

GUARD_DECISIONS: Final = ("allow", "flag", "block")
GUARD_CATEGORIES: Final = (
    "sexual",
    "violence",
    "hate",
    "self_harm",
    "likeness",
    "minor_safety",
    "deception",
)

FEEDBACK_KINDS: Final = ("report", "verdict", "appeal", "decision")
REASONS: Final = (
    "impersonation",
    "spam",
    "harassment",
    "nudity",
    "violence",
    "copyright",
    "misinformation",
    "policy_review",
    "harmless_prompt",
)
VERDICTS: Final = ("abuse", "benign", "unclear", "upheld", "overturned")

APP_VERSIONS: Final = (
    "web-5.14.2",
    "web-5.13.0",
    "ios-5.14.1",
    "ios-5.12.3",
    "android-5.14.0",
    "android-5.11.7",
    "api-2.4.0",
)


def code_of(word: str, words: tuple[str, ...]) -> int:
    """The code of ``word``: its index in ``words``. Raises ValueError for an unknown word."""
    return words.index(word)
