"""A model in a folder: ``card.json``, ``forest.npz`` and, if it is signed, ``card.sig``.

Nothing is ever unpickled. The card names the SHA-256 of the arrays, so a signature of the card
(Ed25519) is one of all.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydantic import ValidationError

from detectors.anomaly import AnomalyModel, Reference, ScoringPlan
from detectors.definitions import column_definitions
from detectors.drift import FeatureBins
from detectors.forest import Forest, ForestError
from monitor.models.card import Card, model_id
from monitor.models.errors import ModelError
from monitor.models.signing import verify

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from detectors.compiled import CompiledPack

__all__ = ["ARRAYS", "CARD", "SIGNATURE", "load_model", "read_card", "write_model"]

CARD: Final = "card.json"
ARRAYS: Final = "forest.npz"
SIGNATURE: Final = "card.sig"

_MAX_CARD_BYTES: Final = 16 * 2**20
_MAX_ARRAY_BYTES: Final = 2**30
_REFERENCE: Final = ("scores", "ranks", "shares", "quantiles", "edges", "bin_shares")
_DAY_MS: Final = 86_400_000


def write_model(folder: Path, card: Card, forest: Forest, reference: Reference) -> str:
    """Write a model into a folder; returns its id. ``arrays_sha256`` of the card is filled in."""
    folder.mkdir(parents=True, exist_ok=True)
    values = (
        reference.scores,
        reference.ranks,
        reference.shares,
        reference.quantiles,
        reference.bins.edges,
        reference.bins.shares,
    )
    buffer = io.BytesIO()
    named = {f"reference_{name}": value for name, value in zip(_REFERENCE, values, strict=True)}
    np.savez_compressed(buffer, allow_pickle=False, **forest.arrays(), **named)
    arrays = buffer.getvalue()
    finished = card.model_copy(update={"arrays_sha256": hashlib.sha256(arrays).hexdigest()})
    (folder / ARRAYS).write_bytes(arrays)
    (folder / CARD).write_bytes(finished.encoded())
    return model_id(finished.encoded())


def read_card(folder: Path) -> tuple[Card, bytes]:
    """The card of the model in a folder, and its bytes.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    path = folder / CARD
    try:
        if path.stat().st_size > _MAX_CARD_BYTES:
            raise ModelError(f"{path}: over {_MAX_CARD_BYTES:,} bytes are no model card")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; a model is a folder with {CARD}") from error
    try:
        return Card.model_validate_json(data), data
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ModelError(
            f"{path}: {place}: {first['msg']}; it is damaged, or of another version of Floodwatch"
        ) from error


def load_model(folder: Path, pack: CompiledPack | None, public_key: bytes | None) -> AnomalyModel:
    """The model in a folder, fit to score the columns of ``pack`` (None: not to be checked).

    With a ``public_key`` (PEM, Ed25519) the model must be signed with its private one.

    Raises:
        ModelError: it is not whole, not what its card says, not signed, or of other features.
    """
    card, card_bytes = read_card(folder)
    if public_key is not None:
        verify(folder / SIGNATURE, card_bytes, public_key)
    arrays = _read_arrays(folder / ARRAYS, card)
    if pack is not None:
        _require_features(folder, card, pack)
    try:
        forest = Forest.from_arrays(card.features, arrays)
        found = [arrays[f"reference_{name}"] for name in _REFERENCE]
    except (ForestError, KeyError) as error:
        raise ModelError(f"{folder / ARRAYS}: {error}") from error
    _require_reference(folder / ARRAYS, found, len(card.features))
    scores, ranks, shares, quantiles, edges, bin_shares = found
    return AnomalyModel(
        model_id=model_id(card_bytes),
        plan=ScoringPlan(card.features, card.where, card.every_ms),
        forest=forest,
        reference=Reference(scores, ranks, shares, quantiles, FeatureBins(edges, bin_shares)),
        alert_rank=card.calibration.alert_rank,
        trained_to_ms=card.data.last_ms,
        max_age_ms=round(card.max_age_days * _DAY_MS),
    )


def _read_arrays(path: Path, card: Card) -> dict[str, npt.NDArray[Any]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}; copy the whole folder of the model") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.arrays_sha256:
        raise ModelError(
            f"{path}: its SHA-256 is {digest[:16]}..., the card says {card.arrays_sha256[:16]}...: "
            "it is damaged or was changed; take a copy that is whole"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MAX_ARRAY_BYTES:
                raise ModelError(f"{path}: over {_MAX_ARRAY_BYTES:,} bytes of arrays")
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ModelError(
            f"{path}: {error}; a model holds plain arrays, and nothing pickled is ever loaded"
        ) from error


def _require_features(folder: Path, card: Card, pack: CompiledPack) -> None:
    """What a feature means must be what it meant when the model was trained."""
    missing = [name for name in card.features if name not in pack.scored_schema]
    if missing:
        raise ModelError(
            f"{folder}: the pack {pack.pack.name!r} has no column {', '.join(missing[:5])}, which "
            f"the model looks at (it was trained on {card.pack} {card.pack_version}); train anew"
        )
    now = column_definitions(pack, card.features)
    for name in sorted(now.keys() | card.definitions.keys()):
        was, has = card.definitions.get(name, "not used"), now.get(name, "not used")
        if was != has:
            raise ModelError(
                f"{folder}: {name} is now {has!r}, it was {was!r} when the model was trained; "
                "train anew"
            )


def _require_reference(path: Path, arrays: list[npt.NDArray[Any]], features: int) -> None:
    scores, ranks, shares, _, _, bin_shares = arrays
    bins = bin_shares.shape[1] if bin_shares.ndim == 2 else 0
    expected = [
        (scores.size,),
        (scores.size,),
        (shares.size,),
        (features, shares.size),
        (features, bins - 1),
        (features, bins),
    ]
    for name, array, shape in zip(_REFERENCE, arrays, expected, strict=True):
        if array.dtype != np.float64 or array.shape != shape or np.isnan(array).any():
            raise ModelError(
                f"{path}: reference_{name} is {array.dtype} {array.shape}, not float64 {shape}"
            )
    ascending = (scores, ranks, shares)
    if not scores.size or any((np.diff(array) < 0).any() for array in ascending):
        raise ModelError(f"{path}: the reference does not ascend")
