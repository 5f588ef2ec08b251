"""What is decided about SLURM without SLURM: states, arrays, sbatch's text, retries, offers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lwspec.engine.executors.again import again, due
from lwspec.engine.executors.slurm import sbatch
from lwspec.engine.executors.slurm.arrays import Array, arrays, minutes, parameters
from lwspec.engine.executors.slurm.limits import Allowed, Counted, association, in_minutes, quality
from lwspec.engine.executors.slurm.offers import Offers, Partition, check, check_shared, gpus_of
from lwspec.engine.executors.slurm.queue import elements
from lwspec.engine.job import Job
from lwspec.engine.plan.pack import Pack
from lwspec.engine.runs.life import (
    GRACE_S,
    REQUEUED,
    SBATCH_S,
    Life,
    Marks,
    Told,
    life,
)
from lwspec.engine.runs.states import State
from lwspec.engine.spec.cluster import Cluster, choose
from lwspec.engine.spec.spec import Retries
from lwspec.errors import BusyError, ClusterError, UsageError

GOLDEN = Path(__file__).parent / "golden"
SLURM_STATES = (
    "BOOT_FAIL CANCELLED COMPLETED CONFIGURING COMPLETING DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY "
    "PENDING PREEMPTED RUNNING RESV_DEL_HOLD REQUEUE_FED REQUEUE_HOLD REQUEUED RESIZING REVOKED "
    "SIGNALING SPECIAL_EXIT STAGE_OUT STOPPED SUSPENDED TIMEOUT POWER_UP_NODE"
).split()


FINAL = (
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED "
    "TIMEOUT"
).split()


def marks(**changes: object) -> Marks:
    return Marks(**{"intended_at": 1000.0, "submitted": True, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SLURM_STATES)
def test_a_state_is_final_only_if_it_is_known_to_be(name: str) -> None:
    in_queue = life(marks(), Told(True, queue=name), 1e6)[0]
    in_accounts = life(marks(), Told(True, account=name), 1000.0 + GRACE_S - 1)[0]
    if name in FINAL:
        assert in_queue == in_accounts == Life.ENDED
    else:
        assert in_queue in (Life.QUEUED, Life.RUNNING)
        assert in_accounts == Life.QUEUED


@pytest.mark.parametrize(
    ("given", "told", "after_s", "expected"),
    [
        # squeue goes before sacct, which still says so of a job that was requeued
        ({}, Told(True, "PENDING", "NODE_FAIL"), 1e6, (Life.QUEUED, None)),
        ({"ended": REQUEUED}, Told(True, "RUNNING", "PREEMPTED"), 1, (Life.RUNNING, None)),
        ({"ended": "finished"}, Told(True), 1, (Life.ENDED, "finished")),
        ({"ended": REQUEUED}, Told(True), 1e6, (Life.ENDED, REQUEUED)),
        ({"ended": REQUEUED}, Told(False), 1e6, (Life.QUEUED, None)),
        ({}, Told(True, None, "CANCELLED by 0"), 1, (Life.ENDED, "cancelled")),
        ({"started_at": 1000.0}, Told(True, None, "OUT_OF_MEMORY"), 1,
         (Life.ENDED, "out of host memory")),
        # nobody knows it: alive while it was heard of lately, then lost
        ({}, Told(True), GRACE_S - 1, (Life.QUEUED, None)),
        ({}, Told(True), GRACE_S + 1, (Life.LOST, None)),
        ({"started_at": 1000.0, "beat_at": 1100.0}, Told(True), GRACE_S + 1, (Life.RUNNING, None)),
        ({"started_at": 1000.0, "beat_at": 1100.0}, Told(True), GRACE_S + 101, (Life.LOST, None)),
        # only sacct knows it: what a controller lost, or a name that nobody here knows
        ({}, Told(True, None, "RUNNING"), GRACE_S + 1, (Life.LOST, None)),
        ({}, Told(True, None, "PENDING"), GRACE_S + 1, (Life.LOST, None)),
        ({}, Told(True, None, "POWER_UP_NODE"), GRACE_S + 1, (Life.QUEUED, None)),
        # squeue does not answer: as it was
        ({}, Told(False), 1e6, (Life.QUEUED, None)),
        ({"started_at": 1000.0}, Told(False), 1e6, (Life.RUNNING, None)),
        # the submitter was killed around sbatch
        ({"submitted": False}, Told(True), SBATCH_S - 1, (Life.QUEUED, None)),
        ({"submitted": False}, Told(True), SBATCH_S + 1, (Life.ENDED, "not submitted")),
        ({"submitted": False, "started_at": 1000.0}, Told(True), 1, (Life.RUNNING, None)),
    ],
)  # fmt: skip
def test_three_sources_make_one_state(
    given: dict[str, object], told: Told, after_s: float, expected: tuple[Life, str | None]
) -> None:
    assert life(marks(**given), told, 1000.0 + after_s) == expected


def job(name: str, *inputs: str, gpus: int = 0, kind: str = "evaluate") -> Job:
    reads = {source: ("result",) for source in inputs}
    return Job(
        name, kind, "x", {}, {source: source for source in inputs}, ("result",), name, reads,
        gpus=gpus,
    )  # type: ignore[arg-type]  # fmt: skip


def pack(*jobs: Job) -> Pack:
    return Pack(f"pack-{jobs[0].id}", jobs)


def test_packs_of_one_kind_and_one_dependency_share_an_array() -> None:
    data, states = pack(job("data")), pack(job("states", "data", gpus=1))
    fits = [pack(job(f"fit{n}", "data", "states", gpus=1)) for n in range(5)]
    made = list(arrays([*fits, states, data], {}, most=3))
    assert [[p.jobs[0].id for p in array.packs] for array in made] == [
        ["data"], ["states"], ["fit0", "fit1", "fit2"], ["fit3", "fit4"],
    ]  # fmt: skip
    assert made[1].after == {"pack-data"}
    assert made[2].after == {"pack-data", "pack-states"}


def test_a_pack_waits_for_what_slurm_has_already() -> None:
    (array,) = arrays([pack(job("fit", "data", "done"))], {"data": "77_3"}, most=10)
    assert array.after == {"77_3"}


def test_the_time_limit_is_what_the_longest_pack_is_allowed() -> None:
    array = Array((pack(job("a")), pack(job("b"), job("c", "b"))), frozenset())
    assert minutes(array, {"a": 60, "b": 300, "c": 301}, 20, None) == 11 + 5
    assert minutes(array, {"a": 60, "b": 300, "c": 301}, 20, 10) == 10


@pytest.mark.parametrize("name", ["plain", "everything"])
def test_the_text_that_sbatch_is_given(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/opt/python")
    monkeypatch.setattr(Path, "resolve", lambda path: path)
    folder = Path("/shared/it's/submissions/final-1f")
    cluster = Cluster() if name == "plain" else Cluster(
        partition="long", account="lab", qos="high", constraint="nvlink", gpu="h200",
        memory_gb=62.5, minutes=600, warning_s=120, at_once=4, modules=("cuda/12.4",),
        setup=("ulimit -n 4096",), sbatch={"exclude": "n[1-2]", "no-kill": True},
    )  # fmt: skip
    gpus = 0 if name == "plain" else 2
    kind = "evaluate" if name == "plain" else "latency"
    array = Array((pack(job("a", gpus=gpus, kind=kind)), pack(job("b", gpus=gpus))), frozenset())
    after = [] if name == "plain" else ["100_0", "100_1"]
    asked = parameters(array, cluster, "final-1f", after, 35)
    text = sbatch.text(asked, len(array.packs), folder)
    assert text == (GOLDEN / f"{name}.sbatch").read_text()


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], True),
        (["stopped"] * 9, True),
        (["finished"], True),
        ([None] * 3, True),
        ([None] * 4, False),
        ([None, None, None, "stopped", None], True),
        (["code"], False),
        (["bad data"], False),
        (["allowance"], False),
        (["out of host memory"] * 3, True),
        (["out of host memory"] * 4, False),
        (["network", "network"], True),
        (["network"] * 3, False),
    ],
)
def test_what_is_tried_again_by_itself(outcomes: list[str | None], expected: bool) -> None:
    assert again(outcomes, Retries()) is expected


def test_what_is_due() -> None:
    jobs = [
        job("done"), job("running", "done"), job("failed", "done"), job("lost", "done"),
        job("cancelled", "done"), job("after_running", "running"), job("after_failed", "failed"),
        job("after_lost", "lost"), job("after_cancelled", "cancelled"),
    ]  # fmt: skip
    states = {each.id: State.WAITING for each in jobs} | {
        "done": State.DONE, "running": State.RUNNING, "failed": State.FAILED,
        "lost": State.LOST, "cancelled": State.CANCELLED, "after_failed": State.BLOCKED,
    }  # fmt: skip
    outcomes = {"failed": ["code"], "lost": [None]}
    found = due(jobs, states, lambda name: again(outcomes[name], Retries()))
    assert found == {"lost", "after_running", "after_lost"}
    more = Retries(code=1)
    assert "after_failed" in due(jobs, states, lambda name: again(outcomes[name], more))


def offers(*hosts: str) -> Offers:
    low = Partition(
        "low", True, 120, frozenset({("a100", 4), ("h200", 2)}), 8, 64_000, frozenset(hosts)
    )
    accounts = [
        association("physics|physics|||normal,high||"), association("physics|biology|||normal|7|"),
    ]  # fmt: skip
    qualities = dict([quality("normal||||"), quality("high|9|20||30:00")])
    return Offers((low,), tuple(accounts), qualities, True, 1001)


@pytest.mark.parametrize(
    ("cluster", "gpus", "said"),
    [
        (Cluster(partition="lwo"), 0, "did you mean: low"),
        (Cluster(account="phisics"), 0, "did you mean: physics"),
        (Cluster(qos="hihg"), 0, "did you mean: high"),
        (Cluster(account="biology", qos="high"), 0, "QOS names of yours: normal"),
        (Cluster(minutes=121), 0, "set minutes to at most 120"),
        (Cluster(memory_gb=100), 0, "set memory_gb to at most 62.5"),
        (Cluster(gpu="h100"), 1, "GPUs a node here: 2 h200, 4 a100"),
        (Cluster(gpu="h200"), 4, "no node of 'low' has them"),
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(
    cluster: Cluster, gpus: int, said: str
) -> None:
    with pytest.raises(ClusterError) as raised:
        offers("n1").allowed(cluster)
        check(cluster, offers("n1"), gpus, 1)
    assert said in str(raised.value)
    check(Cluster(gpu="a100", account="biology", minutes=120), offers("n1"), 4, 8)


def test_accounts_and_qos_limit_how_many_jobs_and_how_long() -> None:
    def found(cluster: Cluster, qos: str | None = None, *lines: str) -> Allowed:
        low = replace(offers().partitions[0], qos=qos)
        here = replace(offers(), partitions=(low,))
        if lines:
            here = replace(here, associations=tuple(map(association, lines)))
        return here.allowed(cluster)

    assert found(Cluster()) == Allowed()
    assert found(Cluster(qos="high")) == Allowed(30, Counted(9, "qos", "high"), 5)
    assert found(Cluster(account="biology")) == Allowed(None, Counted(7, "account", "biology"))
    # Of the partition's QOS, the job's and the association, the first that sets a limit decides.
    assert found(Cluster(account="biology"), "high") == Allowed(
        30, Counted(9, "partition", "low"), 5
    )
    hour = "a|a|||normal,high|4|01:00:00"
    assert found(Cluster(), None, hour) == Allowed(60, Counted(4, "account", "a"))
    assert found(Cluster(qos="high"), None, hour).minutes == 30
    own = "a|a|low||normal|100|7-00:00:00"
    assert found(Cluster(), None, hour, own) == Allowed(10080, Counted(100, "account", "a"))
    other = "a|a|elsewhere||normal|1|1"
    assert found(Cluster(), None, other, hour).minutes == 60
    assert found(Cluster(), None, "a|a|||high||").minutes == 30  # the only QOS is the default one
    assert replace(offers(), enforced=False).allowed(Cluster(qos="high")) == Allowed()


def test_what_the_user_has_there_takes_up_room() -> None:
    queued = [{"account": "a", "qos": "normal", "partition": "low"}] * 3
    queued.append({"account": "b", "qos": "high", "partition": "low"})
    assert Allowed().room(queued) is None
    assert Allowed(counted=Counted(5, "account", "a")).room(queued) == 2
    assert Allowed(counted=Counted(5, "qos", "high")).room(queued) == 4
    assert Allowed(counted=Counted(5, "partition", "low")).room(queued) == 1
    assert Allowed(counted=Counted(2, "partition", "low")).room(queued) == 0


@pytest.mark.parametrize(
    ("printed", "kind", "said"),
    [
        ("sbatch: welcome to the cluster\nsbatch: error: QOSMaxSubmitJobPerUserLimit", BusyError,
         "QOSMaxSubmitJobPerUserLimit"),
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller",
         BusyError, "Unable to contact"),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", ClusterError,
         "Invalid qos"),
        ("sbatch: unrecognized option '--x'\nTry \"sbatch --help\" for more", ClusterError,
         "unrecognized option"),
    ],
)  # fmt: skip
def test_what_sbatch_refuses_for_good_is_not_asked_again(
    printed: str,
    kind: type[ClusterError],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for program, text in (("srun", ""), ("sbatch", f"cat >&2 <<'END'\n{printed}\nEND\nexit 1")):
        (tmp_path / program).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ClusterError) as raised:
        sbatch.send({}, 1, tmp_path)
    assert type(raised.value) is kind
    assert said in str(raised.value).splitlines()[0]


MOUNTS = "/dev/sda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\nhome:/x /home nfs4 rw 0 0\n"


def test_run_folders_must_lie_where_other_nodes_see_them() -> None:
    partition = offers("n1", "n2").partition(None)
    with pytest.raises(ClusterError, match="which other nodes do not see"):
        check_shared(Cluster(), partition, Path("/tmp/x/runs"), MOUNTS)
    check_shared(Cluster(), partition, Path("/home/me/runs"), MOUNTS)
    check_shared(Cluster(shared_runs=True), partition, Path("/tmp/x/runs"), MOUNTS)


def test_limits_and_gres_are_read_as_slurm_writes_them() -> None:
    assert [in_minutes(t) for t in ("infinite", "30:00", "2:00:00", "1-01:00:00")] == [
        None, 30, 120, 1500,
    ]  # fmt: skip
    assert gpus_of("gpu:h200:4(S:0-1),craynetwork:2") == {("h200", 4)}
    assert gpus_of("gpu:2") == {(None, 2)}
    assert gpus_of("gpu:2080ti:4,gpu:1g.10gb:7(S:0)") == {("2080ti", 4), ("1g.10gb", 7)}
    assert gpus_of("gpu:a100:2,shard:gpu:9") == {("a100", 2)}
    assert gpus_of("(null)") == set()
    assert elements("12_3") == ["12_3"]
    assert elements("12_[0-2,7%4]") == ["12_0", "12_1", "12_2", "12_7"]


def test_a_cluster_is_chosen_by_name_from_the_spec_and_the_users_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert choose(None, {}) == ("default", Cluster())
    (tmp_path / "lwspec").mkdir()
    (tmp_path / "lwspec/clusters.toml").write_text('[cluster.home]\npartition = "a"\n')
    assert choose(None, {})[1].partition == "a"
    assert choose("home", {"home": Cluster(partition="b")})[1].partition == "b"
    with pytest.raises(UsageError, match="several clusters"):
        choose(None, {"work": Cluster()})
    with pytest.raises(UsageError) as raised:
        choose("hom", {})
    assert "did you mean: home" in str(raised.value)
