"""What a number says of its code, weights and data is what it was made of, or it is not made."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ENVIRONMENT, Project
from test_edited import BRIDGE, another_number, flipped, job_of, read

import lwspec
from lwspec.engine.runs import evidence
from lwspec.engine.runs.checksum import sha256_of
from lwspec.engine.runs.jsonfile import read_json, write_json, write_record
from lwspec.engine.runs.runfolder import JobFolder, Runs
from lwspec.engine.runs.snapshot import take_snapshot
from lwspec.errors import CodeError, ReportError
from lwspec.kernels.going import SAID
from lwspec.report.evidence import Evidence, attempt_lines, moved_behind
from lwspec.report.markdown import results_md
from lwspec.report.page.view import make_view
from lwspec.report.tables.notes import notes

Copy = Callable[[], Project]


def run_again(folder: Path, **changes: Any) -> dict[str, Any]:
    """Run a finished job once more, as its printed command does; the exit record."""
    from lwspec.kernels.attempt import StopFlag
    from lwspec.kernels.run import run_jobs

    shutil.rmtree(folder / "taken")
    write_json(folder / "job.json", {**read_json(folder / "job.json"), **changes})
    run_jobs([JobFolder(folder)], StopFlag())
    return read_json(folder / "attempt-2" / "exit.json")


def test_a_plan_says_where_git_has_not_the_spec_as_it_is(project: Project) -> None:
    said = f"git has not {project.spec.name} as it is"
    assert said not in project.run("plan", "small.toml").stdout  # it is in no repository
    git(project.folder, "init", "-q")
    assert said in project.run("plan", "small.toml").stdout
    git(project.folder, "add", "small.toml")
    git(project.folder, "commit", "-qm", "first")
    assert said not in project.run("plan", "small.toml").stdout
    project.change("gpu_hours = 2.0", "gpu_hours = 3.0")
    assert said in project.run("plan", "small.toml").stdout


def test_a_job_refuses_code_that_was_not_submitted(copy_of_finished: Copy) -> None:
    folder = job_of(copy_of_finished(), "prepare", "data colour")
    assert read_json(folder / "job.json")["code"] == evidence.code_digest()
    ended = run_again(folder, code="0" * 16)
    assert ended["outcome"] == "other code"
    assert "not the code that was submitted" in ended["message"]
    assert "--no-snapshot" in ended["message"]
    assert not (folder / "taken").exists()


def test_code_that_a_person_asked_for_runs_and_is_told_apart(copy_of_finished: Copy) -> None:
    folder = job_of(copy_of_finished(), "prepare", "data colour")
    assert run_again(folder, code=None)["outcome"] == "finished"
    told = {
        number: read_json(folder / f"attempt-{number}" / "started.json")["evidence"]
        for number in (1, 2)
    }
    rows = [
        {"command": "", "git_sha": "a", "dirty": False, "hardware": "", "host": "", "wall_s": 1}
        | {"peak_bytes": 1, "evidence": told[number]}
        for number in (1, 2)
    ]
    named, asked_for = (dict(attempt_lines(row))["code"] for row in rows)
    assert named == told[1]["code"]
    assert asked_for == f"{told[2]['code']}, as it was when the job started (--no-snapshot)"


def test_a_job_refuses_settings_that_were_edited(copy_of_finished: Copy) -> None:
    folder = job_of(copy_of_finished(), *BRIDGE)
    another_number("batch_size")(folder / "job.json")
    ended = run_again(folder)
    assert ended["outcome"] == "run folder"
    assert "job.json" in ended["message"]


def test_code_edited_while_jobs_wait_changes_nothing_in_their_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    everything = importlib.import_module("lwspec.kernels.everything")
    everything.import_everything()
    package = Path(lwspec.__file__).parent
    files = {file.relative_to(package.parent) for file in (package / "kernels").rglob("*.py")}
    names = {".".join(file.with_suffix("").parts).removesuffix(".__init__") for file in files}
    assert names - set(sys.modules) <= {"lwspec.kernels.preload"}
    monkeypatch.setattr(everything, "digest_of", lambda package: "edited meanwhile")
    with pytest.raises(CodeError, match="changed while it was imported"):
        everything.import_everything.__wrapped__()


def test_a_snapshot_that_was_edited_is_noticed_when_a_job_starts(tmp_path: Path) -> None:
    home = take_snapshot(Runs(tmp_path))
    check = f"from lwspec.engine.runs.evidence import check_code; check_code({home.name!r})"

    def run() -> str:
        environment = {**ENVIRONMENT, "PYTHONPATH": str(home)}
        done = subprocess.run(
            [sys.executable, "-P", "-B", "-c", check],
            capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        return done.stderr

    assert run() == ""
    (home / "lwspec/report/markdown.py").write_text("# no job imports this\n")
    assert run() == ""
    with (home / "lwspec/kernels/arms/bridge.py").open("a") as file:
        file.write("# edited\n")
    assert "this is not the code that was submitted" in run()
    assert take_snapshot(Runs(tmp_path)) == home  # made anew
    assert run() == ""


def git(folder: Path, *arguments: str, **options: Any) -> str:
    return subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments],
        cwd=folder, check=True, capture_output=True, text=True, **options,
    ).stdout  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of a package, below the top of its repository."""
    folder = tmp_path / "top" / "src"
    (folder / "lwspec" / "kernels").mkdir(parents=True)
    for name in ("__init__", "kernels/changed", "kernels/gone", "kernels/moved"):
        (folder / f"lwspec/{name}.py").write_text(f"name = {name!r}\n" * 3)
    (folder.parent / ".gitignore").write_text("ignored.py\n")
    git(folder.parent, "init", "-q")
    git(folder.parent, "add", "-A")
    git(folder.parent, "commit", "-qm", "first")
    return folder


def state_of(folder: Path) -> dict[str, Any]:
    return evidence.git_state.__wrapped__(folder)


def test_a_clean_checkout_is_named_by_its_commit(checkout: Path) -> None:
    sha = git(checkout, "rev-parse", "HEAD").strip()
    assert state_of(checkout) == {"git_sha": sha, "dirty": False, "diff": ""}


def test_code_of_no_commit_says_so(checkout: Path) -> None:
    nothing = {"git_sha": None, "dirty": None, "diff": ""}
    shutil.copytree(checkout / "lwspec", checkout.parent / "untracked" / "lwspec")
    assert state_of(checkout.parent / "untracked") == nothing
    (checkout.parent / ".git" / "index").write_bytes(b"no index")
    assert state_of(checkout) == nothing


def test_commit_and_kept_changes_give_the_code_again(checkout: Path, tmp_path: Path) -> None:
    """Whatever the changes are, and however the person's git shows them."""
    kernels = checkout / "lwspec" / "kernels"
    (kernels / "changed.py").write_bytes(b"name = 'caf\xe9'\n")
    (kernels / "gone.py").unlink()
    (kernels / "moved.py").rename(kernels / "to.py")
    (kernels / "with a space.py").write_text("new = 1\n")
    (kernels / "ignored.py").write_text("and imported = 1\n")
    (kernels / "empty.py").touch()
    (kernels / "zero.py").write_bytes(b"a = '\0'\n")
    for key in ("color.ui=always", "diff.noprefix=true", "diff.external=false"):
        git(checkout, "config", *key.split("="))
    state = state_of(checkout)
    assert state["dirty"]
    again = tmp_path / "again"
    git(tmp_path, "clone", "-q", str(checkout.parent), str(again))
    git(again, "checkout", "-q", state["git_sha"])
    (tmp_path / "code.diff").write_bytes(state["diff"].encode(errors="surrogateescape"))
    git(again, "apply", str(tmp_path / "code.diff"))
    of = evidence.digest_of
    assert of(again / "src" / "lwspec") == of(checkout / "lwspec")


def with_models(project: Project, folder: Path) -> Path:
    """A finished evaluation whose receiver lies in a folder of its own, free to be damaged."""
    job = job_of(project, "evaluate", "no_message colour")
    shutil.copytree(project.folder / "models" / "mistral", folder)
    record = read_json(job / "job.json")
    record["places"]["receiver"] = str(folder)
    write_json(job / "job.json", record)
    return job


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_weights_changed_between_plan_and_run_are_refused(
    name: str, copy_of_finished: Copy, tmp_path: Path
) -> None:
    job = with_models(copy_of_finished(), tmp_path / "mistral")
    if name == "model.safetensors":
        flipped(tmp_path / "mistral" / name)
    else:
        with (tmp_path / "mistral" / name).open("a") as file:
            file.write("\n")
    ended = run_again(job)
    assert ended["outcome"] == "bad model"
    assert "the model has changed since it was planned" in ended["message"]
    assert str(tmp_path / "mistral") in ended["message"]


def test_data_changed_between_plan_and_run_are_refused(
    copy_of_finished: Copy, tmp_path: Path
) -> None:
    project = copy_of_finished()
    job = job_of(project, "prepare", "data colour")
    places = read_json(job / "job.json")["places"]
    mine = tmp_path / "test.jsonl"
    mine.write_text(Path(places["test"]).read_text().replace('"label": 0', '"label": 1', 1))
    ended = run_again(job, places={**places, "test": str(mine)})
    assert ended["outcome"] == "bad data"
    assert f"{mine}: the data have changed since they were planned" in ended["message"]


def test_a_hub_that_moved_is_noted(project: Project) -> None:
    from lwspec.cli.session import open_session

    plan = open_session(project.spec, project.folder / "results.db", project.runs).plan
    cells = [cell for cell in plan.expansion.cells if cell.arm == "bridge"]
    jobs = [cell.evaluate for cell in cells]
    fits = [str(cell.fit) for cell in cells]
    one = {"org/a": "1" * 40}
    said = Evidence({}, {}, {}, {}, 0.0, commits={jobs[0]: one, fits[0]: one})
    assert moved_behind(jobs, plan, said) == {}
    said = Evidence({}, {}, {}, {}, 0.0, commits={jobs[0]: one, fits[1]: {"org/a": "2" * 40}})
    assert moved_behind(jobs, plan, said) == {"org/a": ["1" * 40, "2" * 40]}
    assert moved_behind(jobs[:1], plan, said) == {}


def test_the_plan_says_what_a_hub_may_change(project: Project) -> None:
    project.change("gpu_hours = 2.0", "gpu_hours = 99.0")
    project.change('path = "models/mistral"', 'path = "org/moving"')
    project.change('path = "models/llama"', f'path = "org/fixed"\nrevision = "{"a1" * 20}"')
    said = project.run("plan", "small.toml").stdout
    (line,) = (line for line in said.splitlines() if line.startswith("not pinned"))
    assert "org/moving: a hub may change them" in line
    assert "org/fixed" not in line


def test_the_commit_of_a_hub_set_is_read_from_its_files() -> None:
    from lwspec.kernels.data.sources import commit_of

    def split(*urls: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(download_checksums=dict.fromkeys(urls)))

    url = f"hf://datasets/org/name@{'a1' * 20}/data/train.parquet"
    assert commit_of({"train": split(url)}) == "a1" * 20
    assert commit_of({"train": split("https://example.org/train.csv"), "test": split()}) is None


def as_recorded(attempt: Path, **told: Any) -> None:
    """An attempt as if its process had said something else of its code."""
    started = read_json(attempt / "started.json")
    write_json(attempt / "started.json", {**started, "evidence": {**started["evidence"], **told}})
    ended = read_json(attempt / "exit.json")
    said = [attempt / name for name in SAID if (attempt / name).exists()]
    files = {path.name: sha256_of(path) for path in said}
    del ended["checksum"]
    write_record(attempt / "exit.json", {**ended, "files": files})


def told(project: Project) -> tuple[str, str, str]:
    """Of the one table: in Markdown, on the page, and as LaTeX gets it."""
    content = read(project, rescan=True)
    (data,) = content.tables
    (shown,) = make_view(content).tables
    said = notes(data, content.plan, content.evidence)
    return results_md(content), " ".join(shown.notes), " ".join(said)


def test_every_table_says_which_code_cannot_be_had_again(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    for path in project.runs.glob("*/attempt-1"):
        (path / "code.diff").unlink(missing_ok=True)
        as_recorded(path, git_sha="a" * 40, dirty=False)
    for text in told(project):
        assert "cannot be had again" not in text
    fit = job_of(project, "fit", "bridge colour s1") / "attempt-1"
    rows = job_of(project, "prepare", "data colour") / "attempt-1"
    as_recorded(fit, dirty=True)
    as_recorded(rows, git_sha=None, dirty=None)
    for text in told(project):
        assert (
            "From code that cannot be had again: "
            f"1 run of no commit (lwspec {lwspec.__version__}), "
            "1 run with uncommitted changes that were not kept."
        ) in text
    as_recorded(rows, git_sha="a" * 40, dirty=False)
    (fit / "code.diff").write_text("+KEY = [removed: MY_KEY]")
    as_recorded(fit)
    for text in told(project):
        assert "1 run with uncommitted changes that secrets were taken out of." in text
    (fit / "code.diff").write_text("the changes")
    as_recorded(fit)
    for text in told(project):
        assert "cannot be had again" not in text


def test_changed_changes_are_noticed(copy_of_finished: Copy) -> None:
    project = copy_of_finished()
    attempt = job_of(project, *BRIDGE) / "attempt-1"
    (attempt / "code.diff").write_text("the changes")
    as_recorded(attempt)
    read(project)
    (attempt / "code.diff").write_text("other changes")
    with pytest.raises(ReportError, match="has changed since it was recorded"):
        read(project)
