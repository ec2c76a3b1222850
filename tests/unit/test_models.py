"""Models as files: trained, written, refused when anything about them is wrong; the registry."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from detectors.compiled import CompiledPack, compile_pack
from detectors.errors import StateError
from monitor.models.card import model_id
from monitor.models.errors import ModelError
from monitor.models.files import ARRAYS, CARD, SIGNATURE, load_model, read_card, write_model
from monitor.models.loading import RegistryModels
from monitor.models.registry import Registry
from monitor.models.rows import FeatureRows, read_rows, write_rows
from monitor.models.signing import sign
from monitor.models.training import TrainingSettings, train
from monitor.packs import load_pack

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def pack() -> CompiledPack:
    return compile_pack(load_pack("default"))


def some_rows(pack: CompiledPack, seed: int = 1) -> FeatureRows:
    """Rows of 400 users over two days, in which nothing is remarkable."""
    assert pack.plan is not None
    chance, count = np.random.default_rng(seed), 6_000
    return FeatureRows(
        users=chance.integers(1, 401, count).astype(np.uint64),
        times_ms=1_780_000_000_000 + np.sort(chance.integers(0, 2 * DAY_MS, count)),
        features=chance.exponential(1.0, (count, len(pack.plan.features))),
        condemned=np.zeros(0, dtype=np.uint64),
        events=count,
    )


def made(pack: CompiledPack, folder: Path, seed: int = 1) -> str:
    settings = TrainingSettings(trees=10, max_samples=256, seed=seed)
    trained = train(some_rows(pack), 0, pack, ["monday.parquet"], settings)
    return write_model(folder, trained.card, trained.forest, trained.reference)


@pytest.fixture(scope="module")
def original(pack: CompiledPack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    made(pack, folder)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def test_a_model_is_what_was_trained(pack: CompiledPack, folder: Path, tmp_path: Path) -> None:
    model = load_model(folder, pack, None)
    card, data = read_card(folder)
    assert model.model_id == model_id(data)
    assert model.plan == pack.plan
    assert model.forest.trees == 10
    rows = some_rows(pack, seed=2).features
    scores = model.forest.score(rows)
    rank = model.reference.rank(scores)
    assert 0.4 < np.median(rank) < 0.6
    # Equal rows and seed give equal bytes.
    assert made(pack, tmp_path / "again") == model.model_id
    assert made(pack, tmp_path / "other", seed=2) != model.model_id
    assert card.calibration.alerting_user_days == 0, "of 800 user-days none may alert"
    assert rank[scores <= card.calibration.alert_score].max() < model.alert_rank


def test_who_is_condemned_or_named_is_left_out(pack: CompiledPack) -> None:
    rows = some_rows(pack)
    condemned = replace(rows, condemned=np.array([7], dtype=np.uint64))
    assert 7 in rows.users
    assert 7 not in condemned.without(()).users


def test_rows_can_be_kept(pack: CompiledPack, tmp_path: Path) -> None:
    assert pack.plan is not None
    rows = replace(some_rows(pack), condemned=np.array([7], dtype=np.uint64))
    write_rows(tmp_path / "rows.parquet", rows, pack.plan)
    kept = read_rows(tmp_path / "rows.parquet", pack.plan)
    assert kept is not None
    assert (kept.features == rows.features).all()
    assert kept.condemned.tolist() == [7]


def test_too_little_to_learn_from_is_said(pack: CompiledPack) -> None:
    rows = some_rows(pack)
    with pytest.raises(ModelError, match="1,500 rows are too few"):
        train(rows.of(np.arange(6_000) < 1_500), 0, pack, [], TrainingSettings())


def rewritten(folder: Path, arrays: bytes) -> None:
    """Other arrays, and a card that vouches for them: an insider's attack."""
    (folder / ARRAYS).write_bytes(arrays)
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    card["arrays_sha256"] = hashlib.sha256(arrays).hexdigest()
    (folder / CARD).write_text(json.dumps(card), encoding="utf-8")


def refusal(folder: Path, pack: CompiledPack) -> str:
    """Why a model is refused."""
    with pytest.raises(ModelError) as refused:
        load_model(folder, pack, None)
    return str(refused.value)


def test_changed_arrays_are_refused(pack: CompiledPack, folder: Path) -> None:
    data = bytearray((folder / ARRAYS).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / ARRAYS).write_bytes(data)
    assert "damaged or was changed" in refusal(folder, pack)


def test_truncated_arrays_are_refused(pack: CompiledPack, folder: Path) -> None:
    data = (folder / ARRAYS).read_bytes()
    (folder / ARRAYS).write_bytes(data[: len(data) // 2])
    assert "damaged or was changed" in refusal(folder, pack)
    rewritten(folder, data[: len(data) // 2])
    assert "nothing pickled is ever loaded" in refusal(folder, pack)


class Bomb:
    """Would run when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("it was unpickled",)


def test_a_pickle_is_never_loaded(pack: CompiledPack, folder: Path) -> None:
    rewritten(folder, pickle.dumps(Bomb()))
    assert "nothing pickled is ever loaded" in refusal(folder, pack)
    buffer = io.BytesIO()
    np.savez(buffer, feature=np.array([Bomb()], dtype=object))
    rewritten(folder, buffer.getvalue())
    assert "nothing pickled is ever loaded" in refusal(folder, pack)


def test_arrays_that_do_not_belong_together_are_refused(pack: CompiledPack, folder: Path) -> None:
    with np.load(folder / ARRAYS) as archive:
        arrays = {name: archive[name] for name in archive.files}
    buffer = io.BytesIO()
    np.savez(buffer, **{**arrays, "reference_scores": arrays["reference_scores"][::-1]})
    rewritten(folder, buffer.getvalue())
    assert "does not ascend" in refusal(folder, pack)
    buffer = io.BytesIO()
    np.savez(buffer, **{**arrays, "reference_quantiles": arrays["reference_quantiles"][:3]})
    rewritten(folder, buffer.getvalue())
    assert "reference_quantiles" in refusal(folder, pack)
    del arrays["threshold"]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    rewritten(folder, buffer.getvalue())
    assert "threshold" in refusal(folder, pack)


def test_a_feature_that_means_something_else_now_is_refused(
    pack: CompiledPack, folder: Path
) -> None:
    source = pack.pack
    derived = [
        replace(spec, sql="generations_1h / 2") if spec.name == "generation_pace_1h" else spec
        for spec in source.derived
    ]
    other = compile_pack(replace(source, derived=tuple(derived)))
    assert "generation_pace_1h is" in refusal(folder, other)
    features = [
        replace(spec, where=f"{spec.where} and verified") if spec.name == "generations" else spec
        for spec in source.features
    ]
    other = compile_pack(replace(source, features=tuple(features)))
    assert "and verified" in refusal(folder, other)


def test_a_card_that_is_none_is_refused(pack: CompiledPack, folder: Path) -> None:
    (folder / CARD).write_text('{"format": 1}', encoding="utf-8")
    assert "damaged, or of another version" in refusal(folder, pack)
    (folder / CARD).unlink()
    assert "a model is a folder with card.json" in refusal(folder, pack)


def test_only_what_is_signed_is_used_where_that_is_asked_for(
    pack: CompiledPack, folder: Path
) -> None:
    keys = [Ed25519PrivateKey.generate() for _ in range(2)]
    private = [
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        for key in keys
    ]
    public = (
        keys[0]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(ModelError, match="only signed models"):
        load_model(folder, pack, public)
    card = (folder / CARD).read_bytes()
    sign(folder / SIGNATURE, card, private[1])
    with pytest.raises(ModelError, match="not a signature of this card"):
        load_model(folder, pack, public)
    sign(folder / SIGNATURE, card, private[0])
    load_model(folder, pack, public)
    (folder / CARD).write_bytes(card.replace(b'"seed": 1', b'"seed": 2'))
    with pytest.raises(ModelError, match="not a signature of this card"):
        load_model(folder, pack, public)


def test_roles_change_and_change_back(pack: CompiledPack, original: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models")
    made(pack, tmp_path / "other", seed=2)
    one, other = registry.add(original), registry.add(tmp_path / "other")
    assert registry.add(original) == one
    assert {entry.model_id for entry in registry.entries()} == {one, other}
    assert registry.entry(one[:6]).model_id == one
    with pytest.raises(ModelError, match="no model begins with 'zz'"):
        registry.entry("zz")
    with pytest.raises(ModelError, match="nobody is champion"):
        registry.entry("champion")
    with pytest.raises(ModelError, match="no model was champion before"):
        registry.rollback()
    registry.promote(one, "champion")
    registry.promote(other, "challenger")
    registry.promote(other, "champion")
    assert (registry.roles().champion, registry.roles().challenger) == (other, None)
    assert registry.rollback().after == one
    assert registry.entry("champion").model_id == one
    assert len(registry.roles().history) == 4


def test_a_model_that_cannot_be_used_leaves_the_one_in_use(
    pack: CompiledPack, original: Path, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "models")
    made(pack, tmp_path / "other", seed=2)
    one, other = registry.add(original), registry.add(tmp_path / "other")
    registry.promote(one, "champion")
    models = RegistryModels(registry.folder, pack)
    assert models.current.name == f"{one}+"
    assert not models.refresh()
    arrays = registry.folder_of(other) / ARRAYS
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[:-1])
    registry.promote(other, "champion")
    assert not models.refresh()
    assert models.current.name == f"{one}+"
    assert "damaged" in models.problem
    arrays.write_bytes(whole)
    assert models.refresh()
    assert (models.current.name, models.problem) == (f"{other}+", "")
    registry.promote(other, "challenger")
    registry.promote(None, "champion")
    assert models.refresh(), "the same model, in the other role"
    assert models.current.name == f"+{other}"
    # What was used before can be named, for a crash replay; what is gone cannot.
    assert models.named(f"{one}+").name == f"{one}+"
    assert models.named("").champion is None
    with pytest.raises(StateError, match="cannot be used here"):
        models.named("00000000000000aa+")
