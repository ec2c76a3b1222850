"""The wire schema, version 1: one JSON object an event.

Times are integers, milliseconds since the Unix epoch. Unknown fields are ignored. The envelope
carries exactly the body that its type asks for: ``generation`` for ``generation.*``, ``share``
for ``share.*``, ``feedback`` for ``report.*``, ``verdict.*`` and ``appeal.*``.
Published as JSON Schema in ``docs/schema/event.schema.json``.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from detectors.events import SCHEMA_VERSION

__all__ = [
    "Account",
    "Client",
    "Event",
    "Feedback",
    "Generation",
    "Guard",
    "Provenance",
    "Share",
]


def _says(text: str) -> Meta:
    return Meta(description=text)


# gc=False: events hold no reference cycles, and a chunk of thousands of them would otherwise make
# the garbage collector walk them all.
class Account(Struct, gc=False):
    """The actor's account at the time of the event."""

    created_at: Annotated[int, _says("When the account was created, ms since the epoch.")]
    tier: Annotated[str, _says("Plan: free, plus, pro, enterprise or unverified.")]
    verified: Annotated[bool, _says("The account proved an identity or a phone.")] = False
    country: Annotated[str | None, _says("ISO 3166-1 alpha-2 country of the account.")] = None
    last_active_at: Annotated[
        int | None, _says("The account's last activity before this session, ms.")
    ] = None


class Client(Struct, gc=False):
    """Where the actor came from."""

    ip: Annotated[str | None, _says("Address, IPv4 or IPv6.")] = None
    device_id: str | None = None
    session_id: str | None = None
    app_version: str | None = None


class Guard(Struct, gc=False):
    """What the prompt guard said."""

    decision: Annotated[str, _says("allow, flag or block.")] = "allow"
    categories: Annotated[list[str], _says("Categories, most certain first.")] = []
    score: Annotated[float | None, _says("Certainty, 0 to 1.")] = None


class Generation(Struct, gc=False):
    """A request for a video. The prompt itself is never sent, only its fingerprint."""

    request_id: str
    model: str | None = None
    prompt_fingerprint: Annotated[
        str | None, _says("Exact fingerprint of the normalised prompt (detectors.fingerprint).")
    ] = None
    prompt_signature: Annotated[
        str | None, _says("MinHash signature of the prompt (detectors.fingerprint).")
    ] = None
    duration_s: Annotated[float | None, _says("Length of the video, seconds.")] = None
    resolution: str | None = None
    cost: Annotated[float | None, _says("Cost in credits.")] = None
    guard: Guard | None = None
    likeness_of: Annotated[str | None, _says("Real person whose likeness was asked for.")] = None


class Provenance(Struct, gc=False):
    """Content credentials of a shared video."""

    c2pa_present: bool | None = None
    c2pa_state: Annotated[str | None, _says("trusted, valid, invalid, missing or stripped.")] = None
    digital_source_type: Annotated[str | None, _says("IPTC digital source type.")] = None
    watermark: Annotated[str | None, _says("present, missing or damaged.")] = None


class Share(Struct, gc=False):
    """A video shared, taken back, or viewed in a burst by the actor."""

    asset_id: str
    asset_fingerprint: Annotated[str | None, _says("Perceptual hash of the video.")] = None
    channel: Annotated[str | None, _says("feed, message, group, link or external.")] = None
    target_id: str | None = None
    url: str | None = None
    visibility: Annotated[str | None, _says("private, unlisted or public.")] = None
    view_count: Annotated[int | None, _says("Views or downloads, for share.viewed_burst.")] = None
    provenance: Provenance | None = None


class Feedback(Struct, gc=False):
    """What somebody says about a user: a report, a verdict, an appeal."""

    kind: Annotated[str | None, _says("report, verdict, appeal or decision.")] = None
    subject_user_id: Annotated[str, _says("The user it is about; the key of the event.")] = ""
    asset_id: str | None = None
    reason: str | None = None
    verdict: Annotated[str | None, _says("abuse, benign or unclear; upheld or overturned.")] = None


class Event(Struct, gc=False):
    """The envelope."""

    event_id: Annotated[str, _says("Unique id given by the producer.")]
    type: Annotated[str, _says("What happened, such as generation.requested.")]
    time: Annotated[int, _says("When, ms since the epoch.")]
    user_id: Annotated[str, _says("The actor.")]
    account: Account
    client: Client
    generation: Generation | None = None
    share: Share | None = None
    feedback: Feedback | None = None
    schema_version: int = SCHEMA_VERSION
