"""The records as files and for trackers: what other programs read is what was recorded."""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas
import pytest
from conftest import ROOT, Project
from pyarrow import parquet
from sqlalchemy import insert

import lwspec
from lwspec.engine.store import tables as db
from lwspec.engine.store.store import Store
from lwspec.errors import UsageError
from lwspec.report.export.files import write_files
from lwspec.report.export.tables import TEXT, WHOLE, _flat
from lwspec.report.query import read_points

READ: dict[str, Callable[[Path], pandas.DataFrame]] = {
    "csv": lambda path: pandas.read_csv(path, dtype_backend="numpy_nullable"),
    "parquet": lambda path: parquet.read_table(path).to_pandas(),
    "jsonl": lambda path: pandas.DataFrame(map(json.loads, path.read_text().splitlines())),
}


def opened(project: Project) -> lwspec.Project:
    return lwspec.load(project.spec, db=project.folder / "results.db", runs=project.runs)


def test_every_format_holds_every_record(finished: Project, tmp_path: Path) -> None:
    finished.run("export", "small.toml", "--to", str(tmp_path), "--format", "csv", "--intervals")
    spec = opened(finished)
    for form in ("parquet", "jsonl"):
        lwspec.export(spec, tmp_path, format=form, intervals=True)
    for name in ("results", "runs", "points", "estimates"):
        expected = getattr(lwspec, name)(spec)
        assert len(expected)
        for form, read in READ.items():
            found = read(tmp_path / f"{name}.{form}")
            assert list(found.columns) == list(expected.columns)
            for column in expected.columns:
                ours, its = found[column].dropna(), expected[column].dropna()
                assert ours.tolist() == its.tolist(), (name, form, column)
                assert list(ours.index) == list(its.index), (name, form, column)
    assert not list(tmp_path.glob(".*"))


def test_a_sweep_has_a_column_for_each_of_its_settings(project: Project) -> None:
    swept = 'sweep = { "bridge.latents" = [2, 4], "train.epochs" = [1, 2] }'
    project.change("latents = 4, width = 16, depth = 1, heads = 2 }", f"width = 16 }}\n{swept}")
    project.change("[[table]]\n", '[[table]]\nunequal = "one arm is swept"\n')
    found = lwspec.results(opened(project))
    points = found[found["arm"] == "bridge"][["bridge.latents", "train.epochs", "seed"]]
    assert sorted(map(tuple, points.to_numpy())) == [
        (latents, epochs, seed) for latents in (2, 4) for epochs in (1, 2) for seed in (1, 2)
    ]
    assert found[found["arm"] != "bridge"]["bridge.latents"].isna().all()
    assert set(found["state"]) == {"waiting"}


def test_no_text_becomes_a_formula_of_a_spreadsheet(tmp_path: Path) -> None:
    rows = [{"text": text, "number": -1} for text in ("=1+1", "@x", "+1", "-1", "plain=1", None)]
    for form in ("csv", "jsonl"):
        write_files([_flat("t", {"text": TEXT, "number": WHOLE}, rows)], tmp_path, form)
    assert (tmp_path / "t.csv").read_text().splitlines()[1:] == [
        "\"'=1+1\",-1", "\"'@x\",-1", "\"'+1\",-1", "\"'-1\",-1", "\"plain=1\",-1", ",-1",
    ]  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert lines == rows


def test_an_export_that_breaks_off_leaves_the_one_before(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lwspec.export(opened(finished), tmp_path)
    before = (tmp_path / "points.csv").read_bytes()

    def broken(*_: Any) -> Any:
        yield [("fit-0", "loss", 1, 1, 0.5)]

    monkeypatch.setattr("lwspec.cli.export.read_points", broken)
    with pytest.raises(KeyError):
        lwspec.export(opened(finished), tmp_path)
    assert (tmp_path / "points.csv").read_bytes() == before


def test_what_cannot_be_exported_says_why(finished: Project, project: Project) -> None:
    with pytest.raises(UsageError, match="no format 'parket'") as refused:
        lwspec.export(opened(finished), format="parket")
    assert refused.value.nearest == "parquet"
    with pytest.raises(UsageError, match="no intervals"):
        lwspec.export(opened(finished), format="mlflow", intervals=True)
    with pytest.raises(UsageError, match="nothing has finished"):
        lwspec.export(opened(project), project.folder / "out", format="mlflow")
    assert not (project.folder / "out").exists()


def test_a_client_that_is_not_installed_is_named(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mlflow", "wandb"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
        with pytest.raises(UsageError, match=f"{name} is not installed") as refused:
            lwspec.export(opened(finished), tmp_path / name, format=name)
        assert f"lwspec[{name}]" in str(refused.value)
        assert not (tmp_path / name).exists()


def test_mlflow_reads_every_run(finished: Project, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="make test-trackers installs MLflow's client")
    lwspec.export(opened(finished), tmp_path, format="mlflow")
    tracker = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = tracker.search_experiments(filter_string="name = 'small'")
    runs = {
        run.data.tags["lwspec.job"]: run for run in tracker.search_runs([experiment.experiment_id])
    }
    results = lwspec.results(opened(finished)).set_index("job")
    assert set(runs) == set(results.index)
    points = lwspec.points(opened(finished))
    for job, row in results.iterrows():
        run = runs[job]
        assert run.info.status == "FINISHED"
        assert run.data.metrics["accuracy"] == row["accuracy"]
        assert run.data.params["arm"] == row["arm"]
        assert run.data.tags["lwspec.git_sha"] == row["git_sha"]
        path = tracker.download_artifacts(run.info.run_id, "settings.json", str(tmp_path))
        assert json.loads(Path(path).read_text())["evaluate"]["split"] == "test"
        if row["arm"] == "bridge":
            assert run.data.params["fit.train.learning_rate"] == "0.001"
            told = tracker.get_metric_history(run.info.run_id, "train_loss")
            own = points[(points["job"] == row["fit"]) & (points["name"] == "train_loss")]
            assert [(m.step, m.value) for m in told] == list(
                zip(own["step"], own["value"], strict=True)
            )
    with pytest.raises(UsageError, match="earlier export"):
        lwspec.export(opened(finished), tmp_path, format="mlflow")


def records_of(log: bytes) -> Iterator[bytes]:
    """The records of a file of W&B: LevelDB's log, behind a head of seven bytes."""
    at, whole = 7, b""
    while at < len(log):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK  # no head fits there
            continue
        length, kind = struct.unpack("<HB", log[at + 4 : at + 7])
        whole += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (FULL, LAST):
            yield whole
            whole = b""


BLOCK, FULL, LAST = 2**15, 1, 4


def test_wandb_reads_every_run(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="make test-trackers installs the client of W&B")
    from wandb.proto import wandb_internal_pb2

    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "own"))
    lwspec.export(opened(finished), tmp_path, format="wandb")
    results = lwspec.results(opened(finished)).set_index("job")
    found = {}
    for path in (tmp_path / "wandb").glob("offline-run-*/run-*.wandb"):
        config, summary, steps = {}, {}, []
        for data in records_of(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            config |= {u.key: json.loads(u.value_json) for u in record.run.config.update}
            summary |= {
                u.key or u.nested_key[0]: json.loads(u.value_json) for u in record.summary.update
            }
            line = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in record.history.item}
            if line:
                steps.append(line)
        found[config["lwspec"]["job"]] = (config, summary, steps)
    assert set(found) == set(results.index)
    points = lwspec.points(opened(finished))
    for job, row in results.iterrows():
        config, summary, steps = found[job]
        assert summary["accuracy"] == row["accuracy"]
        assert config["evaluate"]["split"] == "test"
        own = points[(points["job"] == row["fit"]) & (points["name"] == "train_loss")]
        told = [(s["_step"], s["train_loss"]) for s in steps if "train_loss" in s]
        assert told == list(zip(own["step"], own["value"], strict=True))


def test_what_datasette_is_told_is_there(finished: Project) -> None:
    told = json.loads((ROOT / "docs/datasette.json").read_text())["databases"]["results"]
    with closing(sqlite3.connect(finished.folder / "results.db")) as connection:
        asked = connection.execute("select name from sqlite_master where type in ('table', 'view')")
        names = [name for (name,) in asked]
        assert set(told["tables"]) == set(names)
        for name, said in told["tables"].items():
            columns = [row[1] for row in connection.execute(f"pragma table_info({name})")]
            assert {*said.get("columns", ()), *said.get("facets", ())} <= set(columns)
        for name, query in told["queries"].items():
            given = {"metric": "train_loss", "label": "bridge"}
            assert connection.execute(query["sql"], given).fetchall(), name


def test_the_view_has_the_rows_of_the_export(finished: Project) -> None:
    columns = ["experiment", "arm", "task", "seed", "job", "fit", "accuracy"]
    expected = lwspec.results(opened(finished))[columns].astype(object)
    with closing(sqlite3.connect(finished.folder / "results.db")) as connection:
        asked = f"select {', '.join(columns)} from results order by experiment, arm, seed"
        found = connection.execute(asked).fetchall()
    expected = expected.sort_values(["experiment", "arm", "seed"]).where(expected.notna(), None)
    assert found == [tuple(row) for row in expected.to_numpy()]
    assert {row[3] for row in found} == {None, 1, 2}


def test_estimates_are_as_they_were_recorded(finished: Project) -> None:
    found = lwspec.estimates(opened(finished))
    of_one = found[(found["runs"] == 1) & (found["metric"] == "accuracy")].set_index("arm")["mean"]
    recorded = lwspec.results(opened(finished)).set_index("arm")["accuracy"]
    assert len(of_one) > 3
    assert all(of_one[arm] == recorded[arm] for arm in of_one.index)


def test_points_come_in_the_order_of_their_steps(tmp_path: Path) -> None:
    store = Store(tmp_path / "results.db", shared=False)
    steps = [("fit-b", 100), ("fit-a", 9), ("fit-b", 20), ("fit-a", 10), ("fit-c", 1)]
    with store.write() as connection:
        rows = [
            {"job": job, "name": "train_loss", "step": step, "attempt": 1, "value": step / 2}
            for job, step in steps
        ]
        connection.execute(insert(db.points), rows)
    found = [point for some in read_points(store, ["fit-a", "fit-b"]) for point in some]
    assert [(job, step, value) for job, _, step, _, value in found] == [
        ("fit-a", 9, 4.5), ("fit-a", 10, 5.0), ("fit-b", 20, 10.0), ("fit-b", 100, 50.0),
    ]  # fmt: skip
