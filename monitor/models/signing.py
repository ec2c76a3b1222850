"""Signatures of model cards: Ed25519, over the bytes of the card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from monitor.models.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["sign", "verify"]


def sign(signature: Path, card: bytes, private_key: bytes) -> None:
    """Write the signature of a card with a private key (PEM, without a password).

    Raises:
        ModelError: it is no Ed25519 key.
    """
    try:
        key = serialization.load_pem_private_key(private_key, password=None)
    except (ValueError, TypeError) as error:
        raise ModelError(f"the private key cannot be read: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ModelError(
            "the private key is not Ed25519; make one: openssl genpkey -algorithm ed25519"
        )
    signature.write_bytes(key.sign(card))


def verify(signature: Path, card: bytes, public_key: bytes) -> None:
    """Check the signature of a card with a public key (PEM).

    Raises:
        ModelError: it is missing, or of another key or card.
    """
    try:
        key = serialization.load_pem_public_key(public_key)
    except ValueError as error:
        raise ModelError(f"the public key cannot be read: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ModelError("the public key is not Ed25519")
    try:
        key.verify(signature.read_bytes(), card)
    except OSError as error:
        raise ModelError(
            f"{signature}: {error.strerror}; only signed models are used here (models.public_key)"
        ) from error
    except InvalidSignature as error:
        raise ModelError(
            f"{signature}: not a signature of this card by the key in models.public_key"
        ) from error
