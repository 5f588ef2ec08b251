"""lwspec from Python: what the command line does, and nothing that it does not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
from conftest import ENVIRONMENT, Project

import lwspec
from lwspec.errors import ClusterError, ReportError, SpecError, UsageError


def opened(project: Project) -> lwspec.Project:
    return lwspec.load(project.spec, db=project.folder / "results.db", runs=project.folder / "runs")


def script(project: Project, text: str) -> str:
    """What a script prints that a user runs in a project."""
    (project.folder / "script.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=project.folder, env=ENVIRONMENT,
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_import_loads_nothing_else(project: Project) -> None:
    told = script(
        project,
        "import sys\nbefore = set(sys.modules)\nimport lwspec\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(*(new - set(sys.stdlib_module_names)))\nprint(*dir(lwspec))",
    )
    loaded, names = told.splitlines()
    assert loaded == "lwspec"
    assert set(names.split()) == set(lwspec.__all__)
    assert all(getattr(lwspec, name) is not None for name in lwspec.__all__)
    with pytest.raises(AttributeError, match="no attribute 'submitt'"):
        lwspec.submitt  # noqa: B018


def test_plan_and_status_are_those_of_the_command_line(finished: Project) -> None:
    plan, status = lwspec.plan(opened(finished)), lwspec.status(opened(finished))
    assert plan.json == json.loads(finished.run("plan", "small.toml", "--json").stdout)
    assert status.json == json.loads(finished.run("status", "small.toml", "--json").stdout)
    assert list(plan.jobs["id"]) == [job["id"] for job in plan.json["jobs"]]
    assert list(plan.experiments["experiment"]) == ["main", "probe", "direct", "relay"]
    assert set(status.jobs["state"]) == {"done"}
    assert status.counts == {"done": len(status.jobs)}
    assert status.spent_hours == pytest.approx(plan.spent_hours) != 0
    shown = finished.run("plan", "small.toml").stdout.splitlines()
    assert [line.rstrip() for line in str(plan).splitlines()] == [line.rstrip() for line in shown]
    assert str(status) in finished.run("status", "small.toml").stdout


def test_a_script_without_a_guard_submits_once(project: Project) -> None:
    project.keep("direct")
    told = script(
        project,
        "import lwspec\nprint('began')\nspec = lwspec.load('small.toml')\nlwspec.plan(spec)\n"
        "status = lwspec.submit(spec, only='no_message', progress=print)\n"
        "print(status.counts, status.failed)\nprint(lwspec.load().spec.name)\n"
        "print(lwspec.results(spec)['accuracy'].notna().sum())",
    ).splitlines()
    assert told.count("began") == 1
    assert any("2/2 done" in line for line in told)
    assert told[-3:] == ["{'done': 2, 'waiting': 3} ()", "small.toml", "1"]


def test_a_failed_job_is_told_and_tried_again(project: Project) -> None:
    project.keep("direct")
    told = script(
        project,
        "import lwspec, pathlib\nrows = pathlib.Path('data')\nrows.unlink()\nrows.mkdir()\n"
        "for split in ('train', 'test'):\n"
        '    lines = [f\'{{"text": "{split} {n}"}}\' for n in range(40)]\n'
        "    (rows / f'{split}.jsonl').write_text('\\n'.join(lines))\n"
        "spec = lwspec.load('small.toml')\n"
        "status = lwspec.submit(spec, only='data colour')\n"
        "again = lwspec.retry(spec, only='data colour')\n"
        "job = again.jobs.iloc[0]\n"
        "print(status.failed, again.failed, job.outcome, job.attempts)\n"
        "print(*[path.name for path in lwspec.logs(spec, 'data colour')])\n",
    ).splitlines()
    assert told[0] == "('prepare data colour',) ('prepare data colour',) bad data 2"
    assert told[1:] == ["log.txt"]
    with pytest.raises(UsageError, match="no such job"):
        lwspec.cancel(opened(project))


def test_another_plan_than_the_one_shown_is_refused(
    copy_of_finished: Callable[[], Project],
) -> None:
    project = copy_of_finished()
    spec = opened(project)
    lwspec.plan(spec)
    project.change("learning_rate = 1e-3", "learning_rate = 2e-3")
    with pytest.raises(UsageError, match=r"learning_rate.*0\.001.*0\.002") as refused:
        lwspec.submit(spec, only="no_message")
    assert "yes=True" in str(refused.value)
    with pytest.raises(UsageError, match="nothing failed"):
        lwspec.retry(spec)
    with pytest.raises(UsageError, match="has changed"):  # it was not shown by being refused
        lwspec.submit(spec, only="no_message")
    status = lwspec.submit(spec, only="no_message", yes=True)  # which is done
    assert status.counts["waiting"] > 0
    project.change("learning_rate = 2e-3", "learning_rate = 3e-3")
    assert lwspec.plan(spec).change is not None
    lwspec.submit(spec, only="no_message")  # it was shown


def test_what_is_wrong_is_an_error_of_lwspec(project: Project, tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        lwspec.load(project.folder / "none.toml")
    with pytest.raises(UsageError, match="none was planned here"):
        lwspec.load(runs=tmp_path / "empty")
    with pytest.raises(UsageError, match="db"):
        lwspec.load(project.spec, db="oracle://someone:secret@host/x")
    project.change("seeds = [1, 2]", "seed = [1, 2]")
    with pytest.raises(SpecError, match="seeds"):
        opened(project)


def test_slurm_is_asked_where_it_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    spec = opened(project)
    with pytest.raises(ClusterError, match="sbatch"):
        lwspec.submit(spec, executor="slurm")
    with pytest.raises(UsageError, match="are for SLURM"):
        lwspec.submit(spec, executor="local", cluster="lab")
    with pytest.raises(UsageError, match="no executor 'slrum'") as refused:
        lwspec.submit(spec, executor="slrum")
    assert refused.value.nearest == "slurm"
    assert not (project.runs / "submissions").exists()


def test_results_are_what_the_runs_recorded(finished: Project) -> None:
    spec = opened(finished)
    found, runs = lwspec.results(spec), lwspec.runs(spec)
    assert isinstance(found, pandas.DataFrame)
    assert len(found) == found["job"].nunique() == 2 + 1 + 4 + 1
    for row in found.itertuples():
        path = finished.runs / row.job / f"attempt-{row.attempt}" / "evaluation.json"
        said = json.loads(path.read_text())
        assert row.accuracy == said["metrics"]["accuracy"]
        assert row.items == said["n"]
        assert row.finished <= runs["ended"].max()
    bridges = found[found["arm"] == "bridge"]
    assert list(bridges["seed"]) == [1, 2]
    assert found[found["arm"] == "no_message"]["seed"].isna().all()
    assert json.loads(bridges["settings"].iloc[0])["fit"]["train"]["learning_rate"] == 1e-3
    assert set(runs["outcome"]) == {"finished"}
    assert runs["counts"].all()
    losses = lwspec.points(spec).query("name == 'train_loss'")
    assert set(losses["job"]) == set(bridges["fit"])
    assert losses.groupby("job")["step"].apply(lambda steps: steps.is_monotonic_increasing).all()


def test_estimates_are_those_of_the_table(finished: Project, tmp_path: Path) -> None:
    report = lwspec.write_report(opened(finished), tmp_path)
    assert tmp_path / "numbers.tex" in report.paths
    assert not report.gaps
    shown = pandas.read_csv(tmp_path / "tables/main.csv").set_index("row")
    found = lwspec.estimates(opened(finished)).query("metric == 'accuracy'").set_index("arm")
    for arm, row in shown.iterrows():
        estimate = found.loc[arm]
        for ours, its in (("mean", "value"), ("low", "low"), ("high", "high")):
            assert estimate[ours] * 100 == pytest.approx(row[its])
        assert [estimate["method"], estimate["runs"]] == [row["method"], row["finished"]]


def test_nothing_is_made_of_what_has_not_run_or_was_edited(
    copy_of_finished: Callable[[], Project], tmp_path: Path
) -> None:
    project = copy_of_finished()
    spec = opened(project)
    project.change("seeds = [1, 2]", "seeds = [1, 2, 3]")
    found = lwspec.results(spec)
    (third,) = found.index[found["seed"] == 3]
    assert found.loc[third, "state"] == "waiting"
    assert found.loc[third, ["accuracy", "attempt", "finished"]].isna().all()
    with pytest.raises(ReportError, match="gap"):
        lwspec.write_report(spec, tmp_path, strict=True)
    predictions = (
        project.runs
        / found["job"][found["seed"] == 1].item()
        / "attempt-1/predictions/test.parquet"
    )
    predictions.write_bytes(predictions.read_bytes()[:-1])
    with pytest.raises(ReportError, match="bridge"):
        lwspec.results(spec)


def test_why_is_that_of_the_command_line(finished: Project) -> None:
    lwspec.plan(opened(finished))
    told = finished.run("why", "main:bridge/colour", "--json", "--runs", str(finished.runs)).stdout
    assert lwspec.why(opened(finished), "main:bridge/colour") == json.loads(told)
