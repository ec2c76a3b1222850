"""``floodwatch analyze``: every row comes back with a score, and errors say which row is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from sklearn.ensemble import IsolationForest

from monitor.analysis.tables import read_table
from monitor.analysis.times import event_times_ms
from monitor.cli import main


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of ``floodwatch analyze``."""
    with pytest.raises(SystemExit) as ended:
        main(["analyze", *map(str, arguments)])
    out, error = capfd.readouterr()
    return int(ended.value.code or 0), out, error


def _users(rows: int = 500) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    frame = pl.DataFrame(
        {
            "id": [f"{row:05d}" for row in range(rows)],
            "shares": rng.lognormal(2, 1.5, rows).round(),
            "cost": rng.normal(5, 1, rows).round(3),
            "verified": rng.random(rows) < 0.5,
            "country": "US",
            "one": 1,
            "gap": [None if row % 50 == 0 else row % 7 for row in range(rows)],
        }
    )
    frame[17, "shares"], frame[17, "cost"] = 90_000.0, 11.5
    return frame


@pytest.fixture
def users(tmp_path: Path) -> Path:
    _users().write_parquet(tmp_path / "users.parquet")
    return tmp_path / "users.parquet"


@pytest.fixture
def series(tmp_path: Path) -> Path:
    values = np.random.default_rng(1).normal(40, 2, 400)
    values[300] = 75
    times = pl.Series(10**12 + np.arange(400) * 300_000).cast(pl.Datetime("ms"))
    frame = pl.DataFrame(
        {"at": times.dt.strftime("%Y-%m-%d %H:%M:%S"), "load": values, "note": "007"}
    )
    frame.write_csv(tmp_path / "series.csv")
    return tmp_path / "series.csv"


def test_outliers_come_back_beside_their_rows(
    capfd: pytest.CaptureFixture[str], users: Path
) -> None:
    out = users.with_name("scores.parquet")
    code, said, _ = run(capfd, "outliers", "--input", users, "--out", out)
    scores = pl.read_parquet(out)
    assert code == 0
    assert_frame_equal(scores.drop("anomaly_score", "anomaly_rank"), _users())
    assert scores["anomaly_score"].is_between(0, 1).all()
    assert scores["anomaly_score"].arg_max() == 17
    assert scores["anomaly_rank"][17] == pytest.approx(499 / 500)
    assert "note: one: the same in all rows, left out" in said
    assert "note: gap: 10 missing, taken as the median" in said
    table = " ".join(said.replace("│", " ").split())
    assert table.index(" 18 0.") < table.index("shares 90,000")
    assert "shares 90,000 (above 99.8% of rows" in table


def test_outlier_scores_are_those_of_scikit_learn(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    values = np.random.default_rng(2).normal(size=(300, 3)).astype(np.float32).astype(np.float64)
    pl.DataFrame(values, schema=["a", "b", "c"]).write_parquet(tmp_path / "in.parquet")
    out = tmp_path / "out.parquet"
    run(capfd, "outliers", "--input", tmp_path / "in.parquet", "--out", out, "--seed", 5)
    forest = IsolationForest(n_estimators=200, max_samples=256, random_state=5).fit(values)
    found = pl.read_parquet(out)["anomaly_score"].to_numpy()
    np.testing.assert_allclose(found, -forest.score_samples(values), atol=1e-12)


def test_the_seed_decides_and_rows_keep_their_place(
    capfd: pytest.CaptureFixture[str], users: Path
) -> None:
    found = []
    for seed in (3, 3, 4):
        out = users.with_name("out.csv")
        run(capfd, "outliers", "--input", users, "--out", out, "--seed", seed)
        found.append(out.read_bytes())
    assert found[0] == found[1] != found[2]


def test_csv_texts_stay_as_they_are(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = "id,x,y\n007,1.50,true\n008,2.00,false\n009,,true\n"
    (tmp_path / "in.csv").write_text(text, encoding="utf-8")
    code, said, _ = run(
        capfd, "outliers", "--input", tmp_path / "in.csv", "--out", tmp_path / "out.csv"
    )
    assert code == 0
    assert "3 rows by 2 columns" in said
    lines = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "id,x,y,anomaly_score,anomaly_rank"
    assert [line.rsplit(",", 2)[0] for line in lines[1:]] == text.splitlines()[1:]


def test_infinite_values_are_outliers(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    values = np.append(np.random.default_rng(1).normal(size=300), np.inf)
    pl.DataFrame({"x": values}).write_parquet(tmp_path / "in.parquet")
    out = tmp_path / "out.ndjson"
    code, *_ = run(capfd, "outliers", "--input", tmp_path / "in.parquet", "--out", out)
    assert code == 0
    scores = pl.read_ndjson(out)["anomaly_score"]
    assert scores[300] == scores.max()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--columns", "costt"], "no column 'costt'; did you mean 'cost'?"),
        (["--columns", "country"], "column 'country' holds String, not numbers"),
        (["--columns", "one"], "nothing to compare rows by: one: the same in all rows"),
        (["--out", "scores.xlsx"], "scores.xlsx: unknown ending of --out"),
        (["--out", "no/such/scores.csv"], "make it first"),
        (["--input", "absent.csv"], "absent.csv: no such file"),
    ],
)
def test_what_outliers_cannot_do_is_said(
    capfd: pytest.CaptureFixture[str],
    users: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(users.parent)
    given = ["--input", "users.parquet", "--out", "out.csv", *arguments]
    code, _, error = run(capfd, "outliers", *given)
    assert code == 1
    assert said in error
    assert not (users.parent / "out.csv").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read as .csv"),
        ("a,b\n", "has no rows"),
        ("a,b\nx,y\nz,w\n", "no column holds numbers"),
        ("a,b\n1,2\n1,2\n", "a: the same in all rows"),
        ("anomaly_score,b\n1,2\n1,3\n", "has a column 'anomaly_score' already"),
        ("a,b\n1,2,3\n", "cannot be read as .csv"),
    ],
)
def test_tables_without_an_answer_are_refused(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "in.csv"
    path.write_text(text, encoding="utf-8")
    code, _, error = run(capfd, "outliers", "--input", path, "--out", tmp_path / "out.csv")
    assert code == 1
    assert said in error


def test_the_input_is_not_overwritten(capfd: pytest.CaptureFixture[str], users: Path) -> None:
    code, _, error = run(capfd, "outliers", "--input", users, "--out", users)
    assert code == 1
    assert "is the input itself" in error
    assert_frame_equal(pl.read_parquet(users), _users())


def test_volume_scores_every_row_by_those_before(
    capfd: pytest.CaptureFixture[str], series: Path
) -> None:
    def scored(lines: int) -> list[str]:
        short = series.with_name("short.csv")
        text = series.read_text(encoding="utf-8").splitlines(keepends=True)
        short.write_text("".join(text[: lines + 1]), encoding="utf-8")
        out = series.with_name("out.csv")
        code, *_ = run(
            capfd, "volume", "--input", short, "--time", "at", "--value", "load", "--out", out
        )
        assert code == 0
        return out.read_text(encoding="utf-8").splitlines()

    whole = scored(400)
    assert whole[0] == "at,load,note,expected,anomaly_score"
    rows = [line.split(",") for line in whole[1:]]
    assert max(range(400), key=lambda row: float(rows[row][4])) == 300
    lines = series.read_text(encoding="utf-8").splitlines()
    assert [",".join(row[:3]) for row in rows] == lines[1:]
    for length in (1, 29, 150, 301):
        assert scored(length) == whole[: length + 1]


@pytest.mark.parametrize(
    "first",
    [
        "2014-04-01 00:00:00",
        "2014-04-01T00:00:00Z",
        "2014-04-01 02:00:00.0000000+02:00",
        "1396310400",
        "1396310400000",
        "1396310400000000",
    ],
)
def test_times_come_in_many_forms(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, first: str
) -> None:
    pl.DataFrame({"t": [first] * 40, "v": list(range(40))}).write_csv(tmp_path / "in.csv")
    code, _, error = run(
        capfd,
        *("volume", "--input", tmp_path / "in.csv", "--time", "t", "--value", "v"),
        *("--out", tmp_path / "out.csv"),
    )
    assert (code, error) == (0, "")
    assert set(event_times_ms(read_table(tmp_path / "in.csv"), "t")) == {1_396_310_400_000}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["2014-04-01 00:00:00,1", "yesterday,2"], "row 2 (line 3): 'yesterday' in column 't'"),
        (["2014-02-30 00:00:00,1"], "row 1 (line 2): '2014-02-30 00:00:00'"),
        (["2014-04-01 00:00:00,1", "2014-04-01 00:05:00,"], "row 2 (line 3): None in column 'v'"),
        (["2014-04-01 00:00:00,much"], "row 1 (line 2): 'much' in column 'v' is no number"),
        (["2014-04-02 00:00:00,1", "2014-04-01 00:00:00,2"], "row 2 (line 3): its time is 24.0 h"),
    ],
)
def test_volume_names_the_row_that_is_wrong(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, rows: list[str], said: str
) -> None:
    (tmp_path / "in.csv").write_text("\n".join(["t,v", *rows]) + "\n", encoding="utf-8")
    code, _, error = run(
        capfd,
        *("volume", "--input", tmp_path / "in.csv", "--time", "t", "--value", "v"),
        *("--out", tmp_path / "out.csv"),
    )
    assert code == 1
    assert said in error


def test_a_clock_that_was_set_back_is_no_error(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seconds = [*range(0, 7_200, 60), *range(3_600, 10_800, 60)]
    pl.DataFrame({"t": [1_396_310_400 + s for s in seconds], "v": 1.5}).write_csv(
        tmp_path / "in.csv"
    )
    code, said, _ = run(
        capfd,
        *("volume", "--input", tmp_path / "in.csv", "--time", "t", "--value", "v"),
        *("--out", tmp_path / "out.csv"),
    )
    assert code == 0
    assert "note: 59 rows have a time before an earlier row" in said
