"""Fingerprints and signatures of prompts: the same everywhere, close where they should be."""

from __future__ import annotations

import pytest

from detectors.fingerprint import (
    normalise_prompt,
    prompt_fingerprint,
    prompt_signature,
    signature_similarity,
    signature_values,
)

TEMPLATE = (
    "Photorealistic video of {} dancing on the beach at sunset, waves behind, 4k, slow motion"
)


def test_spelling_that_does_not_matter_gives_the_same_fingerprint() -> None:
    """Case, width, spacing and punctuation; another word is another prompt."""
    plain = prompt_fingerprint("A cat, on the moon!")
    assert prompt_fingerprint("  a CAT on   the moon ") == plain
    assert prompt_fingerprint("Ａ cat on the moon") == plain
    assert prompt_fingerprint("A dog, on the moon!") != plain
    assert normalise_prompt("Ｃafé—NOIR\n2") == "café noir 2"


def test_templates_are_close_and_strangers_are_far() -> None:
    """Another name in the same template: similar; another prompt: not."""
    first = prompt_signature(TEMPLATE.format("Alice Miller"))
    second = prompt_signature(TEMPLATE.format("Bob Jones"))
    stranger = prompt_signature("Two robots play chess in an abandoned library, oil painting")
    assert signature_similarity(first, second) > 0.5
    assert signature_similarity(first, stranger) < 0.2
    assert signature_similarity(first, first) == 1.0


def test_they_never_change() -> None:
    """Producers store and send them: this fails if someone changes how they are made."""
    assert prompt_fingerprint("A cat on the moon") == "574c082d06365a6ca834d911a46fa362"
    assert (
        prompt_signature("A cat on the moon")
        == "ae33dMDM40rXyxzGFpf7Kb3obuEdeePPh46cCLVHJOEQhd8TLTIgZqH9Agys0QGEnBRDC3EDYFn7DzN0Hhqlkw"
    )


def test_every_prompt_has_a_signature() -> None:
    """Empty, short, long: 86 characters, 32 values."""
    for text in ("", "a", "word " * 10_000, "日本語のプロンプト"):
        signature = prompt_signature(text)
        assert len(signature) == 86
        assert signature_values(signature).shape == (32,)


@pytest.mark.parametrize("text", ["", "short", "ü" * 86, "A" * 87])
def test_what_is_no_signature_is_refused(text: str) -> None:
    """With what was given in the message."""
    with pytest.raises(ValueError, match="not a prompt signature"):
        signature_values(text)
