"""What the fuzzer (tests/fuzz) once found, each as its smallest case."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SPEC

from lwspec.engine.executors.slurm import offers
from lwspec.engine.executors.slurm.offers import _lines, _partition
from lwspec.engine.executors.slurm.queue import elements, in_queue
from lwspec.engine.executors.slurm.submission import submissions
from lwspec.engine.executors.submit import PlanMemory
from lwspec.engine.job import Job
from lwspec.engine.plan.fingerprint import Fingerprints
from lwspec.engine.plan.machines import kept
from lwspec.engine.plan.records import read_records
from lwspec.engine.runs.attempt import AttemptFolder
from lwspec.engine.runs.checksum import KEY, with_checksum
from lwspec.engine.runs.jsonfile import write_json, write_record
from lwspec.engine.runs.life import state_name
from lwspec.engine.runs.runfolder import JobFolder, Runs
from lwspec.engine.shapes import shape_of
from lwspec.engine.spec.load import arm_files, load
from lwspec.engine.spec.loaded import LoadedSpec
from lwspec.engine.store.ingest import ingest
from lwspec.engine.store.store import Store
from lwspec.errors import (
    BusyError,
    CheckpointError,
    ClusterError,
    DataError,
    ReportError,
    RunFolderError,
    SpecError,
)
from lwspec.kernels.arms import declarations
from lwspec.report.paper.template import fill


def loaded(folder: Path, text: str) -> LoadedSpec:
    (folder / "paper.tex").touch()
    path = folder / "spec.toml"
    path.write_text(text)
    arm_files(path)
    return load(path, declarations())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "small"', f"name = {'[' * 3000}", "nested too deeply"),
        ('name = "small"', f"{'a.' * 100}b = 1", "nested more than"),
        ("seeds = [1, 2]", f"seeds = [{'9' * 5000}]", "out of its range"),
        ("seeds = [1, 2]", f"seeds = [{2**63}]", "no number of 64 bits"),
        ("seeds = [1, 2]", "seeds = [{ a = 1 }]", "valid integer"),
        ("epochs = 2", "epochs = 999999999", "less than or equal to 10000"),
        ("samples = 48", "samples = 999999999999", "less than or equal to 10000000"),
        ("rows = 12", "rows = 999999999999", "less than or equal to 10000000"),
        ("seeds = [1, 2]", f"seeds = {list(range(40_000))}", "cells"),
    ],
)
def test_a_spec_beyond_all_bounds_is_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in SPEC
    with pytest.raises(SpecError, match=said):
        loaded(tmp_path, SPEC.replace(old, new, 1))


def test_a_sweep_of_more_points_than_can_be_planned_is_refused(tmp_path: Path) -> None:
    keys = ("train.batch_size", "train.epochs", "bridge.latents", "bridge.depth", "bridge.heads")
    values = list(range(1, 31))
    sweep = ", ".join(f'"{key}" = {values}' for key in keys)
    text = SPEC.replace("latents = 4, width = 16, depth = 1, heads = 2", "width = 16")
    text = text.replace('arms = ["bridge"]', f'arms = ["bridge"]\nsweep = {{ {sweep} }}')
    with pytest.raises(SpecError, match="24,300,000 points"):
        loaded(tmp_path, text)


@pytest.mark.parametrize("pattern", ["(a{99999999999999999999})", "(" * 2000, "(?P<a>"])
def test_a_pattern_that_no_engine_reads_is_refused(pattern: str) -> None:
    from lwspec.engine.spec.task import _has_one_group

    with pytest.raises(ValueError, match="no regular expression"):
        _has_one_group(pattern)


def test_a_pattern_that_takes_for_ever_fails_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    from lwspec.kernels.measuring import metrics

    monkeypatch.setattr(metrics, "PATTERN_S", 0.05)
    assert metrics.first_match(r"(\d+)$", "so 1,200 and 17") == "17"
    with pytest.raises(DataError, match="answer_pattern"):
        metrics.first_match(r"((?:a|aa|a+)+)b$", "b" + "a" * 200)


JOB = Job("prepare-0", "prepare", "data", {}, {}, ("result",), "data topic", {})


@pytest.fixture
def attempt(tmp_path: Path) -> AttemptFolder:
    """A finished attempt at a job, with its records as jobs write them."""
    folder = JobFolder(tmp_path / "runs" / JOB.id)
    write_json(folder.path / "job.json", {**JOB.to_json(), "allowance_s": 60.0})
    made = folder.begin_attempt()
    write_json(
        made.path / "started.json",
        {"job": JOB.id, "started_at": 1.0, "evidence": {"side_by_side": 1}},
    )
    made.append_event("metric", step=1, values={"train_loss": 0.5})
    output = {"files": {}, "metrics": {"rows": 3}, "facts": {}, "finished_at": 2.0}
    folder.take(made, "result", output)
    times = {"ended_at": 2.0, "wall_s": 1.0, "device_s": 1.0}
    made.end({"outcome": "finished", **times})
    return made


def recorded(attempt: AttemptFolder) -> list[str]:
    """What ingestion complains of; afterwards the store can be read."""
    runs = Runs(attempt.path.parent.parent)
    store = Store(runs.path.parent / "results.db", shared=True)
    problems = [f"{Path(problem.where).name}: {problem.what}" for problem in ingest(runs, store)]
    read_records(store, {})
    return problems


def test_whole_records_are_recorded_without_complaint(attempt: AttemptFolder) -> None:
    assert recorded(attempt) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("../job.json", lambda record: record.pop("reads")),
        ("../job.json", lambda record: record.update(outputs=["../result"])),
        ("../job.json", lambda record: record.update(charge="1")),
        ("../job.json", lambda record: record.update(id="prepare-1")),
        ("started.json", lambda record: record.pop("started_at")),
        ("started.json", lambda record: record.update(evidence=[])),
        ("started.json", lambda record: record.update(evidence={"side_by_side": 0})),
        ("started.json", lambda record: record.update(evidence={"process": {"host": "a"}})),
        ("exit.json", lambda record: record.pop("wall_s")),
        ("exit.json", lambda record: record.update(device_s=None)),
        ("exit.json", lambda record: record.update(device_s=float("nan"))),
        ("exit.json", lambda record: record.update(peak_bytes=2**64)),
        ("exit.json", lambda record: record.update(message="\ud800")),
        ("../taken/result.json", lambda record: record.pop("facts")),
        ("../taken/result.json", lambda record: record.update(metrics={"rows": 10**400})),
        ("../taken/result.json", lambda record: record.update(metrics={"rows": "3"})),
        ("../taken/result.json", lambda record: record.update(attempt=2**64)),
        ("../taken/result.json", lambda record: record.update(finished_at=[])),
    ],
)
def test_a_record_that_lacks_what_readers_rely_on_is_named(
    name: str, change: Callable[[dict[str, object]], None], attempt: AttemptFolder
) -> None:
    path = (attempt.path / name).resolve()
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(with_checksum(record) if KEY in record else record))
    (problem,) = recorded(attempt)
    assert problem.startswith(f"{path.name}: ") and "has changed" not in problem


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        '{"event": 3}',
        '{"event": "metric", "step": 2}',
        '{"event": "metric", "step": 36893488147419103232, "values": {"loss": 1}}',
        '{"event": "metric", "step": 2, "values": {"loss": {}}}',
        '{"event": "metric", "step": 2, "values": {"\\ud800": 1}}',
        '{"event": "progress", "done": 1, "total": null, "what": "epoch 1"}',
        '{"event": "progress", "done": 1, "total": 2, "what": "epoch", "device_s": NaN}',
        '{"event": "failed", "device_s": []}',
        "[" * 5000,
    ],
)
def test_a_line_that_is_no_event_is_left_out(line: str, attempt: AttemptFolder) -> None:
    with (attempt.path / "events.jsonl").open("a") as file:
        file.write(f"{line}\n")
    assert recorded(attempt) == ["events.jsonl: 1 damaged lines were left out"]


@pytest.mark.parametrize("raw", [b"[" * 5000, b"[]", b"{", b"\xff", b""])
def test_that_a_job_was_taken_back_is_said_by_a_file_whatever_is_in_it(
    raw: bytes, attempt: AttemptFolder
) -> None:
    folder = JobFolder(attempt.path.parent)
    (folder.path / "cancelled.json").write_bytes(raw)
    assert folder.cancelled()


def test_plans_and_submissions_that_are_no_records_are_named(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    write_json(tmp_path / "plans" / "small.shown.json", {"spec": "small", "jobs": []})
    with pytest.raises(RunFolderError, match="small.shown.json"):
        PlanMemory(runs).shown("small")
    write_json(tmp_path / "submissions" / "small-1" / "intent.json", {"packs": [{}]})
    with pytest.raises(RunFolderError, match="intent.json"):
        list(submissions(runs))


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', '{"a": {"sha256": 1}}', "[" * 5000, "\x00"])
def test_a_damaged_memory_of_fingerprints_is_made_anew(text: str, tmp_path: Path) -> None:
    data, memory = tmp_path / "data.jsonl", tmp_path / "fingerprints.json"
    data.write_text("one\n")
    memory.write_text(text)
    assert Fingerprints(memory).of(data).lines == 1


def test_rates_that_were_not_measured_are_named(tmp_path: Path) -> None:
    write_json(tmp_path / "machines" / "cpu.json", {"unit": "cpu", "machine": {"flops": "1"}})
    with pytest.raises(RunFolderError, match="lwspec bench writes it anew"):
        kept(Runs(tmp_path), "cpu")


def test_a_config_of_other_kinds_tells_no_shape(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"hidden_size": "32", "num_hidden_layers": 2, "text_config": [1]}')
    assert shape_of({"weights": "hash"}, str(tmp_path)) is None
    path.write_text("[" * 5000)
    with pytest.raises(RunFolderError, match="config.json"):
        shape_of({"weights": "hash"}, str(tmp_path))


@pytest.mark.parametrize(
    ("job", "found"),
    [
        ("12_[0-1,7%4]", ["12_0", "12_1", "12_7"]),
        ("12_3", ["12_3"]),
        ("12", ["12"]),
        ("12_[0-9999999]", []),
        ("12_[0-99999999999]", []),
        ("12_[0-]", []),
        ("12_x", []),
        ("12+0", []),
    ],
)
def test_ids_of_arrays(job: str, found: list[str]) -> None:
    assert elements(job) == found


def test_slurm_programs_that_print_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "squeue"
    program.write_text("#!/bin/sh\necho 'a|b|c|d'\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BusyError, match="prints what cannot be read"):
        in_queue("me")
    with pytest.raises(ClusterError, match="sinfo printed a line that cannot be read: 'cpu|inf'"):
        _lines("sinfo", "cpu|inf\n", _partition)
    assert state_name(" ") is None


@pytest.mark.parametrize(
    "text",
    [
        r"\BLOCK{for a in range(9999)}\BLOCK{for b in range(9999)}\BLOCK{endfor}\BLOCK{endfor}",
        r"\VAR{title * 999999999}",
        r"\VAR{9 ** 99999999}",
        r"\VAR{'%999999999d' % 1}",
        r"\VAR{title | center(999999999)}",
        r"\VAR{range(99999999) | list}",
        r"\VAR{title.__class__.__mro__}",
        r"\VAR{lipsum(9999)}",
        r"\BLOCK{macro a()}\VAR{a()}\BLOCK{endmacro}\VAR{a()}",
        rf"\VAR{{{'(' * 3000}",
        rf"\VAR{{{'7' * 5000}}}",
    ],
)
def test_a_template_that_never_ends_or_reaches_out_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "paper.tex"
    path.write_text(text)
    with pytest.raises(ReportError, match="paper.tex"):
        fill(path, "out.tex", {"title": "A title"}, set())


def test_a_template_of_arithmetic_with_numbers_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "paper.tex"
    path.write_text(r"\BLOCK{for a in range(3)}\VAR{a * 2 % 3} \BLOCK{endfor}")
    assert fill(path, "out.tex", {}, set()).parts[0].text == "0 2 1 "


def test_a_file_of_a_name_that_no_file_can_have_is_not_beside_the_template(tmp_path: Path) -> None:
    path = tmp_path / "paper.tex"
    path.write_text(rf"\input{{{'a' * 5000}}}")
    filled = fill(path, "out.tex", {}, set())
    assert [asked.name for asked in filled.parts[0].asked] == ["a" * 5000]
    assert not filled.beside


def test_tensors_that_are_not_what_was_written(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from lwspec.kernels.data.stored import Pooled, StoredBlock
    from lwspec.kernels.training.checkpoint import (
        Progress,
        load_checkpoint,
        optimizer_tensors,
        save_checkpoint,
    )

    path = tmp_path / "block.safetensors"
    for raw in (b"", b"\xff" * 20, (2).to_bytes(8, "little") + b"{}"):
        path.write_bytes(raw)
        for read in (StoredBlock, lambda file: Pooled([file], 1)):
            with pytest.raises(RunFolderError, match="unreadable"):
                read(path)
    save_file({"states": torch.ones(3, 4), "ends": torch.tensor([0, 9])}, path)
    with pytest.raises(RunFolderError, match="do not end"):
        StoredBlock(path)

    module, other = torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    moments = optimizer_tensors(optimizer)
    place = save_checkpoint(tmp_path, module.state_dict(), moments, Progress(1, 2, 3, 0.5))
    before = other.weight.clone()
    with pytest.raises(CheckpointError, match="not this arm's"):
        load_checkpoint(place, other, torch.optim.AdamW(other.parameters()))
    assert torch.equal(other.weight, before)
    state = json.loads((place / "state.json").read_text())
    for changed in ({"step": "3"}, {"epoch": -1}, {"loss_sum": None}):
        damaged = {**state, "progress": {**state["progress"], **changed}}
        write_record(place / "state.json", damaged)
        with pytest.raises(CheckpointError, match="no progress"):
            load_checkpoint(place, module, optimizer)
    write_record(place / "state.json", {**state, "files": {}})
    with pytest.raises(CheckpointError, match="unreadable"):
        load_checkpoint(place, module, optimizer)


def test_a_size_of_arrays_that_is_no_size_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"scontrol": f"MaxArraySize = {'7' * 5000}\n", "sinfo": "cpu*|1:00:00|(null)|2|100|a\n"}
    monkeypatch.setattr(offers, "_run", lambda command: told.get(command[0], ""))
    monkeypatch.setattr(offers.shutil, "which", lambda name: name)
    assert offers.ask().most_elements == 1001
