"""A state that is damaged, torn or of another kind is refused: which block, which array."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from detectors.batch import EventBatch
from detectors.compiled import compile_pack
from detectors.errors import StateError
from detectors.stages import UserStage
from detectors.state import Layout, Snapshot, StateBlock, json_array, json_value, state_digest
from detectors.topology import Topology
from tests.support.events import random_events, small_pack

PACK = compile_pack(small_pack())
USERS = 20


def new_stage() -> UserStage:
    """An empty stage; blocks of eight rows."""
    return Topology(PACK, max_users=USERS, block_rows=8).user_stage()


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    """The state of 20 users in three blocks, with open incidents."""
    stage = new_stage()
    stage.process(EventBatch.of(random_events(1, 600, USERS, spacing_ms=2_000)))
    assert len(stage.incidents) > 5
    return stage.snapshot()


def refusal(
    snapshot: Snapshot, *, layout: Layout | None = None, blocks: list[StateBlock] | None = None
) -> str:
    """What the error says."""
    with pytest.raises(StateError) as error:
        new_stage().restore(
            snapshot.layout if layout is None else layout,
            snapshot.changed if blocks is None else blocks,
        )
    return str(error.value)


def with_array(
    snapshot: Snapshot, block_name: str, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> list[StateBlock]:
    """The blocks, with one array of one of them changed."""
    return [
        StateBlock(block.name, {**block.arrays, name: change(block.arrays[name])})
        if block.name == block_name
        else block
        for block in snapshot.changed
    ]


def test_names_of_blocks(snapshot: Snapshot) -> None:
    """As documented."""
    assert snapshot.names == ("rows/0", "rows/1", "rows/2", "incidents/0", "stage")
    assert [len(block.arrays["keys.key"]) for block in snapshot.changed[:3]] == [8, 8, 4]


@pytest.mark.parametrize("block_name", ["rows/1", "incidents/0", "stage"])
def test_arrays_that_are_damaged(snapshot: Snapshot, block_name: str) -> None:
    """Missing, of another type, of another length: each array of each block."""
    [block] = [block for block in snapshot.changed if block.name == block_name]
    for name, array in block.arrays.items():
        others = {other: kept for other, kept in block.arrays.items() if other != name}
        torn = [StateBlock(b.name, others) if b is block else b for b in snapshot.changed]
        assert refusal(snapshot, blocks=torn).startswith(f"{block_name}: array '{name}' is missing")
        said = refusal(snapshot, blocks=with_array(snapshot, block_name, name, lambda a: a != 0))
        assert said == f"{block_name}: array '{name}' is bool, not {array.dtype}"
        said = refusal(snapshot, blocks=with_array(snapshot, block_name, name, lambda a: a[:-1]))
        assert said.startswith(f"{block_name}: array '")


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("rows/2", "rows: 1 of 3 blocks of rows are missing: rows/2 (without them"),
        ("incidents/0", "incidents: blocks ['incidents/0'] are missing"),
        ("stage", "stage: 0 such blocks, not 1"),
    ],
)
def test_blocks_that_are_missing(snapshot: Snapshot, missing: str, said: str) -> None:
    """Each kind."""
    blocks = [block for block in snapshot.changed if block.name != missing]
    assert refusal(snapshot, blocks=blocks).startswith(said)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rows/0", "rows/0: there are 20 rows in blocks of 8; this block is not of them, or came"),
        ("rows/3", "rows/3: there are 20 rows in blocks of 8"),
        ("rows/x", "rows/x: a name like 'rows/17' was expected"),
        ("incidents/7", "incidents: blocks ['incidents/7'] are missing or not of this state"),
        ("stage", "stage: 2 such blocks, not 1"),
        ("elsewhere/0", "blocks: unknown blocks ['elsewhere/0']"),
    ],
)
def test_blocks_that_do_not_belong(snapshot: Snapshot, name: str, said: str) -> None:
    """Twice, out of range, of unknown kind."""
    kind = name.split("/", maxsplit=1)[0]
    like = next((block for block in snapshot.changed if block.name.startswith(kind)), None)
    extra = StateBlock(name, like.arrays if like else {})
    assert refusal(snapshot, blocks=[*snapshot.changed, extra]).startswith(said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 2}, "layout: format 2 is newer than 1"),
        ({"format": None}, "layout: no format is given"),
        ({"stage": "trace"}, "layout: the state of a 'trace' stage cannot become that of a 'user'"),
        ({"fields": None}, "layout: it cannot be read: "),
        ({"arrays": {}}, "layout: it cannot be read: "),
        ({"rows": -1}, "layout: -1 rows in blocks of 8"),
        ({"block_rows": 0}, "layout: 20 rows in blocks of 0"),
        ({"rows": 21}, "rows/2: array 'keys.key' has shape (4,) instead of (5,)"),
    ],
)
def test_layouts_that_cannot_be_read(
    snapshot: Snapshot, changes: dict[str, object], said: str
) -> None:
    """A newer format says what to do."""
    message = refusal(snapshot, layout={**snapshot.layout, **changes})
    assert message.startswith(said)
    if "newer" in said:
        assert message.endswith(
            "(a newer Floodwatch wrote it: run that one, or start from an empty state)"
        )


def test_parts_that_contradict_each_other(snapshot: Snapshot) -> None:
    """Keys that are there twice, incidents in one place, counters of another moment."""
    twice = with_array(snapshot, "rows/1", "keys.key", np.zeros_like)
    assert refusal(snapshot, blocks=twice).startswith("rows: the key table cannot be rebuilt: ")
    places = with_array(snapshot, "incidents/0", "place", np.zeros_like)
    assert refusal(snapshot, blocks=places).startswith("incidents: two objects at place 0")
    rules = with_array(snapshot, "incidents/0", "rule", lambda a: a + 9)
    assert refusal(snapshot, blocks=rules).startswith("incidents/0: array 'rule' names a rule")
    text = with_array(snapshot, "incidents/0", "text", lambda _: json_array({"ids": []}))
    assert refusal(snapshot, blocks=text).startswith("incidents/0: array 'text' lacks something")
    rest = with_array(snapshot, "stage", "json", lambda _: json_array({"keys": {}}))
    assert refusal(snapshot, blocks=rest).startswith("rows: the key table cannot be rebuilt: ")
    torn = with_array(snapshot, "stage", "json", lambda a: a[:-4])
    assert refusal(snapshot, blocks=torn).startswith("stage: array 'json' is not JSON: ")


def test_a_full_snapshot_is_only_a_look() -> None:
    """It holds everything, and what has changed since the last one still counts as changed."""
    stage = new_stage()
    stage.process(EventBatch.of(random_events(1, 50, 4)))
    full, again = stage.snapshot(full=True), stage.snapshot()
    assert [block.name for block in full.changed] == list(full.names) == list(again.names)
    assert [block.name for block in again.changed] == list(full.names)
    assert state_digest(stage) == state_digest(stage) != state_digest(new_stage())


def test_snapshots_of_an_empty_stage() -> None:
    """No rows, no incidents; it can be restored as well."""
    snapshot = new_stage().snapshot()
    assert snapshot.names == ("stage",)
    stage = new_stage()
    restored = stage.restore(snapshot.layout, snapshot.changed)
    assert (restored.rows, restored.dropped, restored.complete) == (0, (), True)


def test_values_become_the_same_bytes_and_come_back() -> None:
    """Whatever strings hold; the order of names does not matter."""
    value = {"b": [1, 2.5, None, True], "a": "ünïcode \ud800 ✓\0"}
    array = json_array(value)
    assert array.dtype == np.uint8
    assert json_value(StateBlock("x", {"json": array}), "json") == value
    assert json_array(dict(reversed(value.items()))).tobytes() == array.tobytes()


def test_another_size_of_blocks(snapshot: Snapshot) -> None:
    """Rows fit whatever the block size; what comes next is then written anew."""
    stage = Topology(PACK, max_users=USERS, block_rows=16).user_stage()
    restored = stage.restore(snapshot.layout, snapshot.changed)
    assert replace(restored, rows=0).complete is False
    after = stage.snapshot()
    assert {block.name for block in after.changed} == set(after.names)
    back = new_stage()
    back.restore(after.layout, after.changed)
    original = new_stage()
    original.restore(snapshot.layout, snapshot.changed)
    assert state_digest(back) == state_digest(original)
