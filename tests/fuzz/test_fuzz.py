"""A short fuzz; ``make fuzz`` runs a million."""

from __future__ import annotations

from tests.fuzz.run import fuzz


def test_every_damaged_record_is_accounted_for() -> None:
    result = fuzz(30_000, seed=2, say=lambda _line: None)
    assert result.records == 30_000
    assert result.unaccounted == 0
    assert result.wrong_offsets == 0
    assert result.processed + result.late >= result.whole
    assert len(result.dead_letters) >= 8, result.dead_letters
