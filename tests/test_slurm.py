"""Jobs on a real SLURM, through everything that it does to them, with and without accounting."""

from __future__ import annotations

import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from slurm.cluster import running, until
from slurm.fixtures import ROOT, SlurmProject, finished, resumed_from

from lwspec.engine.runs.jsonfile import read_json

pytestmark = pytest.mark.slurm
DATA = ("--only", "data*")


def test_plain_jobs_and_their_dependencies_end_done(slurm: SlurmProject) -> None:
    slurm.submit("--wait")
    assert set(slurm.counts()) == {"done"}
    assert len(finished(slurm)) == 3
    assert "everything is done" in slurm.submit()


def test_a_job_that_raises_fails_and_blocks_what_needs_it(slurm: SlurmProject) -> None:
    slurm.control(data={"do": "raise"})
    out = slurm.submit("--wait", status=1)
    assert "this job was told to fail" in out
    assert slurm.state("data") == "failed"
    assert slurm.state("no_message") == "blocked"
    assert "this job was told to fail" in slurm.run("logs", "data")
    slurm.control()
    slurm.run("retry", "--executor", "slurm", "--yes", "--wait")
    assert set(slurm.counts()) == {"done"}
    assert len(slurm.attempts("data")) == 2


@pytest.mark.parametrize("way", ["kill", "exit"])
def test_a_job_that_dies_without_a_word_is_tried_again_then_failed(
    slurm: SlurmProject, way: str
) -> None:
    slurm.control(data={"do": way})
    slurm.submit("--wait", *DATA, status=1)
    assert slurm.attempts("data") == [{}] * 4
    slurm.control()
    slurm.run("retry", "--executor", "slurm", "--yes", "--wait", *DATA)
    assert slurm.state("data") == "done"


def test_a_running_and_a_pending_job_are_cancelled_from_outside_and_go_on(
    slurm: SlurmProject,
) -> None:
    slurm.control(data={"seconds": 30})
    slurm.submit()
    slurm.until_counting("data")
    for label in ("data", "no_message"):
        slurm.cluster.run("scancel", slurm.slurm_id(label))
    until(lambda: not {"running", "queued"} & set(slurm.counts()), 60)
    assert slurm.state("data") == "interrupted"
    slurm.control()
    slurm.submit("--wait")
    assert set(slurm.counts()) == {"done"}
    assert resumed_from(slurm) > 0


def test_lwspec_cancel_stops_jobs_until_they_are_retried(slurm: SlurmProject) -> None:
    slurm.control(data={"seconds": 30})
    slurm.submit()
    slurm.until_counting("data")
    assert "cancelled  prepare data" in slurm.run("cancel")
    until(lambda: slurm.state("data") == "cancelled", 60)
    slurm.run("status", "small.toml", "--watch", status=None)
    assert slurm.state("data") == "cancelled"
    slurm.control()
    slurm.run("retry", "--executor", "slurm", "--yes", "--wait")
    assert set(slurm.counts()) == {"done"}


def test_jobs_of_an_earlier_plan_are_shown_and_can_be_cancelled(slurm: SlurmProject) -> None:
    slurm.control(data={"seconds": 30})
    slurm.submit("--only", "data*")
    slurm.until_counting("data")
    slurm.change("sample_seed = 0", "sample_seed = 7")
    said = slurm.run("status", "small.toml")
    assert "1 jobs of an earlier plan are in SLURM's hands: lwspec cancel" in said
    assert "cancelled  prepare data" in slurm.run("cancel", "small.toml")
    until(lambda: not slurm.cluster.run("squeue", "-h", "-r").strip(), 60)


def test_scontrol_requeue_runs_it_again(slurm: SlurmProject) -> None:
    slurm.control(data={"seconds": 3})
    slurm.submit(*DATA)
    slurm.until_counting("data")
    slurm.cluster.run("scontrol", "requeue", slurm.slurm_id("data"))
    slurm.submit("--wait", *DATA)
    assert slurm.state("data") == "done"
    assert len(slurm.attempts("data")) == 2
    assert len(slurm.submissions()) == 1


@pytest.mark.parametrize("partition", ["grace", "low", "gone"])
def test_a_preempted_job_goes_on_from_its_checkpoint(
    accounted: SlurmProject, partition: str
) -> None:
    slurm = accounted
    slurm.change('partition = "low"', f'partition = "{partition}"')
    slurm.control(data={"seconds": 12})
    waiting = slurm.start("submit", "small.toml", "--executor", "slurm", "--yes", "--wait", *DATA)
    until(lambda: list((slurm.folder / "runs/submissions").glob("*/slurm.json")), 60)
    slurm.until_counting("data")
    time.sleep(2)
    slurm.cluster.preempt()
    out, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 0, out + err
    assert resumed_from(slurm) > 0
    assert slurm.attempts("data")[0]["outcome"] == "stopped"
    assert len(finished(slurm)) == 1


def test_the_time_limit_is_met_with_a_checkpoint_and_a_requeue(accounted: SlurmProject) -> None:
    slurm = accounted
    slurm.change("minutes = 10", "minutes = 2")
    slurm.control(data={"seconds": 100})
    slurm.submit("--wait", *DATA)
    assert resumed_from(slurm) > 0
    assert {end["outcome"] for end in slurm.attempts("data")} == {"stopped", "finished"}


def test_children_of_a_job_do_not_answer_for_it(slurm: SlurmProject) -> None:
    slurm.control(data={"seconds": 8, "fork": True})
    slurm.submit(*DATA)
    pid = slurm.until_counting("data")
    slurm.cluster.run("scancel", "--signal", "USR2", slurm.slurm_id("data"))
    slurm.submit("--wait", *DATA)
    assert not running(pid)
    assert len(slurm.attempts("data")) == 2
    assert resumed_from(slurm) > 0


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("signal_name", ["KILL", "INT"])
def test_whatever_ends_submit_around_sbatch_nothing_is_submitted_twice_or_lost(
    slurm: SlurmProject, signal_name: str, moment: str
) -> None:
    """Killed before sbatch: given up and sent again. Killed after it: found by its name."""
    reached = signal_name == "INT" or moment == "after"
    kill = f"kill -{signal_name} $PPID" + ("" if reached else "; exit 1")
    slurm.shim("sbatch", **{moment: kill})
    slurm.write(3)
    slurm.control(data={"seconds": 6})
    slurm.submit(*DATA, status=None)
    slurm.unshim()
    assert len(slurm.cluster.run("squeue", "-h", "-r").splitlines()) == (3 if reached else 0)
    slurm.submit("--wait", *DATA)
    assert slurm.counts()["done"] == 3
    assert len(slurm.submissions()) == (1 if reached else 2)
    assert all(len(slurm.attempts(f"data t{n:04d}")) == 1 for n in range(3))


def test_an_intent_that_was_given_up_and_arrives_after_all_runs_nothing(
    accounted: SlurmProject,
) -> None:
    slurm = accounted
    slurm.shim("sbatch", before="kill -KILL $PPID; exit 1")
    slurm.submit(*DATA, status=None)
    slurm.unshim()
    (late,) = slurm.submissions()
    slurm.submit("--wait", *DATA)
    (script,) = late.glob("*.sh")
    slurm.cluster.run("sbatch", str(script))
    until(lambda: list(late.glob("*.ended.json")))
    assert "superseded" in next(late.glob("*.ended.json")).read_text()
    assert len(slurm.attempts("data")) == 1


@pytest.mark.parametrize("moment_s", [0.6, 1.6])
def test_ctrl_c_at_any_moment_of_submit(slurm: SlurmProject, moment_s: float) -> None:
    slurm.write(10)
    process = slurm.start("submit", "small.toml", "--executor", "slurm", "--yes", *DATA)
    time.sleep(moment_s)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    slurm.submit("--wait", *DATA)
    assert slurm.counts()["done"] == 10
    assert all(len(slurm.attempts(f"data t{n:04d}")) == 1 for n in range(10))
    assert not slurm.cluster.run("squeue", "-h").strip()


def test_queued_jobs_run_the_code_that_was_submitted(accounted: SlurmProject) -> None:
    """The copy is what jobs import; a job whose copy was changed refuses to run."""
    slurm = accounted
    slurm.control(data={"seconds": 1})
    slurm.submit("--wait", *DATA)
    (code,) = (slurm.folder / "runs/code").iterdir()
    started = read_json(slurm.folder_of("data") / "attempt-1/started.json")
    assert started["evidence"]["git_sha"] == read_json(code / "code.json")["git_sha"]
    slurm.shim("sbatch", before=f"echo '# edited' >> {code}/lwspec/__init__.py")
    slurm.submit("--wait", status=1)
    slurm.unshim()
    assert (slurm.state("toy"), slurm.state("no_message")) == ("failed", "blocked")
    out = slurm.run("logs", "toy")
    assert "not the code" in out and "submit --no-snapshot" in out
    slurm.submit("--wait", "--no-snapshot")
    assert set(slurm.counts()) == {"done"}


def test_one_status_asks_squeue_and_sacct_once(slurm: SlurmProject) -> None:
    slurm.write(40)
    slurm.control(data={"seconds": 20})
    slurm.submit(*DATA)
    calls_at = slurm.folder / "calls"
    for name in ("squeue", "sacct", "scontrol", "sinfo"):
        slurm.shim(name, before=f"echo {name} >> {calls_at}")
    slurm.run("status", "small.toml", status=None)
    calls = calls_at.read_text().split()
    assert sorted(set(calls)) in (["squeue"], ["sacct", "squeue"])
    assert len(calls) == len(set(calls))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('partition = "low"', 'partition = "hihg"', "did you mean: high"),
        ("minutes = 10", "minutes = 500", "allows 120"),
        ("memory_gb = 0.2", "memory_gb = 900.0", "set memory_gb to at most 7.8"),
        ("gpus = 0\n", "gpus = 3\n", "GPUs a node here: 2 of no named type"),
        ("gpus = 0\n", "gpus = 1\n", ""),
        ("minutes = 10", 'minutes = "0-00:02:00"', "minutes"),
        (
            "gpus = 0\n\n[retries]\nkilled = 3\n\n[cluster.test]\n",
            "gpus = 1\n\n[retries]\nkilled = 3\n\n[cluster.test]\ngpu = 'h900'\n",
            "GPUs a node here: 2 of no named type",
        ),
        ("warning_s = 30", "warning_s = 570", "leave no time to work"),
        ("warning_s = 30", "sbatch = { job-name = 'x' }", "job-name: set by lwspec"),
    ],
)
def test_what_the_cluster_does_not_offer_is_refused_before_submission(
    accounted: SlurmProject, old: str, new: str, said: str
) -> None:
    accounted.change(old, new)
    if not said:
        out = accounted.submit("--dry-run")
        assert "#SBATCH" in out and "export PYTHONPATH=" in out
        return
    assert said in accounted.submit(status=2)
    assert not (accounted.folder / "runs/submissions").exists()
    assert not accounted.cluster.run("squeue", "-h").strip()


def test_a_wrong_account_is_refused_with_those_there_are(accounted: SlurmProject) -> None:
    accounted.cluster.run("sacctmgr", "-i", "add", "account", "physics", check=False)
    accounted.cluster.run("sacctmgr", "-i", "add", "user", "root", "account=physics", check=False)
    accounted.change('partition = "low"', 'partition = "low"\naccount = "phisics"')
    assert "did you mean: physics" in accounted.submit(status=2)


def test_the_quickstart_gives_the_predictions_that_it_gives_here(
    accounted: SlurmProject,
) -> None:
    accounted.real = True
    for name in ("quickstart.toml", "paper.tex"):
        shutil.copy(ROOT / "specs" / name, accounted.folder)
    submit = ("submit", "quickstart.toml", "--yes")
    accounted.run(*submit, "--executor", "slurm", "--wait", timeout=900)
    accounted.run(*submit, "--runs", "here", "--db", "here.db", timeout=600)
    folders = [sorted((accounted.folder / runs).glob("evaluate-*")) for runs in ("runs", "here")]
    assert [path.name for path in folders[0]] == [path.name for path in folders[1]]
    for there, here in zip(*folders, strict=True):
        predictions = "attempt-1/predictions/test.parquet"
        assert (there / predictions).read_bytes() == (here / predictions).read_bytes()


def test_jobs_beyond_the_clusters_limit_are_cut_into_arrays(slurm: SlurmProject) -> None:
    slurm.write(1010)
    slurm.control(data={"seconds": 600})
    slurm.submit(*DATA)
    arrays = list((slurm.folder / "runs/submissions").iterdir())
    assert len(arrays) == 2
    assert slurm.cluster.run("squeue", "-h", "-r").count("\n") == 1010
    slurm.run("cancel")
    until(lambda: not slurm.cluster.run("squeue", "-h").strip(), 120)


@pytest.fixture
def tight(accounted: SlurmProject) -> Iterator[SlurmProject]:
    """A QOS that takes three jobs of a user's at once, of five minutes each."""

    def manage(*words: str) -> None:
        accounted.cluster.run("sacctmgr", "--immediate", *words, check=False)

    manage("add", "qos", "tight", "set", "MaxSubmitJobsPerUser=3", "MaxWall=5")
    manage("modify", "user", "root", "set", "qos+=tight")
    yield accounted
    manage("modify", "user", "root", "set", "qos-=tight")


def test_what_a_qos_takes_at_once_is_sent_and_the_rest_as_it_ends(tight: SlurmProject) -> None:
    tight.write(7)
    tight.change('partition = "low"', 'partition = "low"\nqos = "tight"')
    tight.control(data={"seconds": 60})
    said = tight.submit(*DATA, status=2)
    assert "takes no more jobs of yours at once; 4 allocations are left" in said
    assert tight.cluster.run("squeue", "-h", "-r", "-o", "%l %r").splitlines() == ["5:00 None"] * 3
    assert "takes no more jobs of yours at once" in tight.submit(*DATA, status=2)
    tight.control()
    tight.run("cancel")
    tight.run("retry", "--executor", "slurm", "--yes", "--wait", *DATA)
    assert tight.counts()["done"] == 7
    assert len(finished(tight)) == 7


def test_retries_go_where_they_were_sent_before(slurm: SlurmProject) -> None:
    slurm.write(2)
    text = (slurm.folder / "small.toml").read_text()
    table = text[text.index("[cluster.test]") : text.index("[models.llama]")]
    slurm.change(
        table, table + table.replace("test", "other").replace("minutes = 10", "minutes = 9")
    )
    slurm.control(data={"seconds": 30})
    slurm.submit("--cluster", "test", "--only", "data t0000")
    slurm.submit("--cluster", "other", "--only", "data t0001")
    for label in ("data t0000", "data t0001"):
        slurm.until_counting(label)
        slurm.cluster.run("scancel", slurm.slurm_id(label))
    until(lambda: slurm.counts()["interrupted"] == 2, 90)
    slurm.control()
    said = slurm.run("status", "small.toml", "--watch")
    assert slurm.counts()["done"] == 2, said
    intents = [read_json(path / "intent.json") for path in slurm.submissions()]
    sent = Counter(
        (
            intent["cluster"],
            intent["minutes"],
            read_json(slurm.folder / "runs" / job / "job.json")["label"],
        )
        for intent in intents
        for pack in intent["packs"]
        for job in pack["jobs"]
    )
    assert sent == {("test", 10, "data t0000"): 2, ("other", 9, "data t0001"): 2}
