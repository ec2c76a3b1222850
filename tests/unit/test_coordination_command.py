"""``floodwatch analyze coordination``: tables, a summary and a picture of who acts together."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from monitor.cli import main

COLUMNS = ("--object", "asset", "--account", "user", "--content", "share", "--time", "at")


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``floodwatch analyze coordination``."""
    with pytest.raises(SystemExit) as ended:
        main(["analyze", "coordination", *map(str, arguments)])
    out, error = capfd.readouterr()
    return int(ended.value.code or 0), out, error


def _shares() -> pl.DataFrame:
    """A crew of five on six assets within 20 s each, among sixty others over two days."""
    rng = np.random.default_rng(3)
    rows = []
    for asset in range(6):
        start = int(rng.integers(100_000))
        rows += [(asset, f"crew & {name}", start + int(rng.integers(20))) for name in range(5)]
        rows += [(asset, f"user {name}", int(rng.integers(172_800))) for name in range(60)]
    frame = pl.DataFrame(rows, schema=["asset", "user", "second"], orient="row")
    at = pl.datetime(2026, 1, 5) + pl.duration(seconds="second")
    return frame.select(
        pl.format("asset-{}", "asset").alias("asset"),
        "user",
        pl.int_range(pl.len()).alias("share"),
        at.dt.strftime("%Y-%m-%dT%H:%M:%SZ").alias("at"),
    )


@pytest.fixture
def shares(tmp_path: Path) -> Path:
    _shares().write_parquet(tmp_path / "shares.parquet")
    return tmp_path / "shares.parquet"


def test_a_crew_is_found_and_written(
    capfd: pytest.CaptureFixture[str], shares: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "results"
    code, said, error = run(
        capfd, "--input", shares, *COLUMNS, "--window", 30, "--significant", "--out", out
    )
    assert (code, error) == (0, "")
    assert "10 kept, 1 groups" in said
    groups = pl.read_parquet(out / "groups.parquet")
    assert groups["account_id"].sort().to_list() == [f"crew & {name}" for name in range(5)]
    assert groups["rank"].to_list() == [1, 2, 3, 4, 5]
    assert groups["weighted_degree"].is_sorted(descending=True)
    assert groups["core"].all()
    edges = pl.read_parquet(out / "edges.parquet")
    kept = edges.filter("kept")
    assert kept.height == 10
    assert (kept["account_id"] < kept["account_id_y"]).all()
    assert kept["objects"].to_list() == [6] * 10
    assert (kept["expected"] < 0.1).all()
    assert kept["mean_time_delta"].is_between(0, 20).all()
    assert edges["q"].is_sorted()
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["parameters"]["window_s"] == 30
    assert summary["rows"] == 390
    assert (summary["accounts"], summary["objects"]) == (65, 6)
    assert summary["edges"] == edges.height
    assert summary["kept_edges"] == summary["significant_edges"] == 10
    assert summary["group_sizes"] == [5]


def test_pairs_have_the_columns_of_coortweet(
    capfd: pytest.CaptureFixture[str], shares: Path, tmp_path: Path
) -> None:
    run(capfd, "--input", shares, *COLUMNS, "--window", 30, "--out", tmp_path / "out")
    pairs = pl.read_parquet(tmp_path / "out" / "pairs.parquet")
    assert pairs.columns == [
        "object_id",
        "account_id",
        "account_id_y",
        "content_id",
        "content_id_y",
        "time_delta",
    ]
    assert pairs["time_delta"].is_between(0, 30).all()
    assert pairs["content_id"].dtype == pl.Int64
    at = _shares().select("share", pl.col("at").str.to_datetime(time_zone="UTC"))
    both = pairs.join(at, left_on="content_id", right_on="share").join(
        at, left_on="content_id_y", right_on="share", suffix="_y"
    )
    apart = (both["at_y"] - both["at"]).dt.total_seconds()
    assert (apart == both["time_delta"]).all()


@pytest.mark.parametrize("suffix", [".csv", ".ndjson"])
def test_other_formats_and_the_order_of_rows_give_the_same(
    capfd: pytest.CaptureFixture[str], shares: Path, tmp_path: Path, suffix: str
) -> None:
    other = tmp_path / f"shares{suffix}"
    shuffled = _shares().sample(fraction=1.0, shuffle=True, seed=1)
    shuffled.write_csv(other) if suffix == ".csv" else shuffled.write_ndjson(other)
    found = []
    for source in (shares, other):
        run(capfd, "--input", source, *COLUMNS, "--out", tmp_path / "out")
        edges = pl.read_parquet(tmp_path / "out" / "edges.parquet")
        found.append(edges.sort("account_id", "account_id_y"))
    assert found[0].equals(found[1])


def test_the_picture_has_a_dot_for_each_account_and_a_line_for_each_tie(
    capfd: pytest.CaptureFixture[str], shares: Path, tmp_path: Path
) -> None:
    texts = []
    for _ in range(2):
        run(capfd, "--input", shares, *COLUMNS, "--significant", "--out", tmp_path / "out")
        texts.append((tmp_path / "out" / "graph.svg").read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    picture = ElementTree.fromstring(texts[0])
    names = {title.text for title in picture.iter("{http://www.w3.org/2000/svg}title")}
    assert names == {f"crew & {name}: 24" for name in range(5)}
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}line"))) == 10
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    for dot in picture.iter("{http://www.w3.org/2000/svg}circle"):
        assert 0 < float(dot.attrib["cx"]) < width
        assert 0 < float(dot.attrib["cy"]) < height


def test_edge_weight_keeps_what_is_above_the_quantile(
    capfd: pytest.CaptureFixture[str], shares: Path, tmp_path: Path
) -> None:
    arguments = [*COLUMNS, "--window", 600, "--edge-weight", 0.5]
    run(capfd, "--input", shares, *arguments, "--out", tmp_path / "out")
    edges = pl.read_parquet(tmp_path / "out" / "edges.parquet")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    middle = float(np.quantile(edges["weight"].to_numpy(), 0.5))
    assert summary["weight_above"] == middle
    assert edges["kept"].to_list() == (edges["weight"] > middle).to_list()
    assert 0 < summary["kept_edges"] < summary["edges"]


def test_objects_with_too_many_pairs_are_named(
    capfd: pytest.CaptureFixture[str], shares: Path, tmp_path: Path
) -> None:
    viral = pl.DataFrame(
        {
            "asset": "viral",
            "user": [f"user {name}" for name in range(60)],
            "share": list(range(1_000, 1_060)),
            "at": "2026-01-05T12:00:00Z",
        }
    )
    pl.concat([_shares(), viral]).write_parquet(shares)
    code, said, _ = run(
        capfd, "--input", shares, *COLUMNS, "--most-pairs", 500, "--out", tmp_path / "out"
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert code == 0
    assert "note: 1 objects have too many pairs and are left out" in said
    assert summary["dropped"]["objects_beyond_most_pairs"] == 1
    assert summary["dropped"]["largest_of_these"] == [
        {"object": "viral", "actions": 60, "pairs": 1_770}
    ]
    assert "viral" not in pl.read_parquet(tmp_path / "out" / "pairs.parquet")["object_id"]


def test_no_pair_at_all_is_a_result(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("asset,user,share,at\nx,a,1,5\nx,b,2,500\n", encoding="utf-8")
    code, said, error = run(
        capfd, "--input", tmp_path / "in.csv", *COLUMNS, "--out", tmp_path / "out"
    )
    assert (code, error) == (0, "")
    assert "0 pairs, 0 edges (0 significant), 0 kept, 0 groups" in said
    for name in ("pairs", "edges", "groups"):
        assert pl.read_parquet(tmp_path / "out" / f"{name}.parquet").height == 0


@pytest.mark.parametrize(
    ("rows", "arguments", "said"),
    [
        ("x,a,1,5", ["--object", "aset"], "no column 'aset'; did you mean 'asset'?"),
        ("x,a,1,5\nx,,2,5", [], "row 2 (line 3): nothing in column 'user'; drop such rows"),
        ("x,a,1,5\nx,b,2,soon", [], "row 2 (line 3): 'soon' in column 'at' is no time"),
        ("x,a,1,5", ["--object", "user"], "one column cannot be two of object, account"),
        ("x,a,1,5", ["--out", "in.csv"], "in.csv: cannot be written to"),
        ("x,a,1,5", ["--input", "absent.csv"], "absent.csv: no such file"),
    ],
)
def test_what_is_wrong_is_said(
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: str,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text(f"asset,user,share,at\n{rows}\n", encoding="utf-8")
    code, _, error = run(capfd, "--input", "in.csv", *COLUMNS, "--out", "out", *arguments)
    assert code == 1
    assert said in " ".join(error.split())


def test_measures_are_no_names(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    _shares().with_columns(user=0.5).write_parquet(tmp_path / "in.parquet")
    code, _, error = run(
        capfd, "--input", tmp_path / "in.parquet", *COLUMNS, "--out", tmp_path / "out"
    )
    assert code == 1
    assert "column 'user' holds Float64, not names" in error


def test_the_published_figures_come_out(
    capfd: pytest.CaptureFixture[str], data_dir: Path, tmp_path: Path
) -> None:
    """Those of CooRTweet: 3,791 pair rows, 2,110 vertices, 3,721 edges."""
    arguments: list[object] = ["--input", data_dir / "russian_coord_tweets.parquet"]
    arguments += ["--object", "object_id", "--account", "account_id", "--content", "content_id"]
    arguments += ["--time", "timestamp_share", "--window", 60, "--min-participation", 2]
    code, said, _ = run(capfd, *arguments, "--out", tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert code == 0
    assert "3,791 pairs, 3,721 edges (2 significant)" in said
    assert (summary["pairs"], summary["vertices"], summary["edges"]) == (3_791, 2_110, 3_721)
    assert pl.read_parquet(tmp_path / "pairs.parquet").height == 3_791
    assert pl.read_parquet(tmp_path / "edges.parquet").height == 3_721
