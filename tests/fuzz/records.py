"""Records in run folders: what jobs, allocations and earlier commands wrote down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.fuzz.mutation import Choices, tokens
from tests.fuzz.specs import Case, write


def agreeing(choices: Choices, text: str) -> str:
    """A damaged record with the checksum of what it says now, where it had one: in most cases.

    Without, nothing behind the checksum would ever be reached.
    """
    from lwspec.engine.runs.checksum import KEY, with_checksum

    try:
        record = json.loads(text)
        if isinstance(record, dict) and KEY in record and choices.number(4):
            return json.dumps(with_checksum(record))
    except (ValueError, RecursionError):
        pass  # no record at all
    return text


def events(world: Path, folder: Path) -> Case:
    """Lines of events.jsonl, as the ingester reads them."""
    from sqlalchemy import create_engine

    from lwspec.engine.runs.attempt import AttemptFolder
    from lwspec.engine.store.ingest import _insert_points
    from lwspec.engine.store.tables import metadata

    (path,) = (world / "runs").glob("prepare-*/attempt-1/events.jsonl")
    seeds, attempt = [tokens(path.read_text())], AttemptFolder(folder / "attempt-1")
    attempt.path.mkdir()
    database = create_engine("sqlite://").connect()
    metadata.create_all(database)
    database.commit()

    def case(choices: Choices) -> None:
        write(attempt.path / "events.jsonl", choices.text(seeds))
        found, read = attempt.events()
        attempt.events(min(read, choices.number(200)))
        attempt.device_s()
        _insert_points(database, "job", 1, found)
        database.rollback()

    return case


def run_folder(world: Path, folder: Path) -> Case:
    """One file of a run folder damaged, then all of it recorded and read as `status` does."""
    from lwspec.engine.executors.slurm.watch import granted_s, watch
    from lwspec.engine.executors.submit import PlanMemory
    from lwspec.engine.plan.records import read_records
    from lwspec.engine.runs.runfolder import Runs
    from lwspec.engine.store.ingest import ingest
    from lwspec.engine.store.store import Store
    from lwspec.errors import LwspecError

    shutil.copytree(world / "runs", folder / "runs")
    runs, store = Runs(folder / "runs"), Store(folder / "results.db", shared=True)
    (folder / "runs/machines").mkdir()
    (name,) = runs.listed()
    job = runs.folder(name)
    planned = {name: job.job()}
    names = (
        "job.json", "attempt-1/started.json", "attempt-1/exit.json", "attempt-1/events.jsonl",
        "taken/result.json", "cancelled.json",
    )  # fmt: skip
    paths = [job.path / name for name in names]
    paths += (folder / "runs/plans").glob("*.json")
    paths += (folder / "runs/submissions").glob("*/*.json")
    originals = {path: path.read_bytes() for path in paths}
    seeds = {path: [tokens(raw.decode())] for path, raw in originals.items() if len(raw) < 50_000}
    memory = PlanMemory(runs)

    def case(choices: Choices) -> None:
        path = list(seeds)[choices.number(len(seeds) - 1)]
        choices.note(path.name)
        text = agreeing(choices, choices.text(seeds[path]))
        path.unlink()  # a taken output is a hard link
        try:
            write(path, text)
            ingest(runs, store, rescan=True)
            read_records(store, planned)
            for look in (
                job.job, job.outcomes, job.spent_s, lambda: runs.cancelled([name]),
                memory.last_spec, lambda: granted_s(runs, watch(runs), "quickstart"),
            ):  # fmt: skip
                try:
                    look()
                except LwspecError as error:
                    assert str(error).strip()
        finally:
            path.unlink(missing_ok=True)
            path.write_bytes(originals[path])

    return case


def caches(world: Path, folder: Path) -> Case:
    """What is remembered below runs/ and can be deleted: fingerprints, statistics, machines."""
    from lwspec.engine.plan.cost import ASSUMED
    from lwspec.engine.plan.fingerprint import Fingerprints
    from lwspec.engine.plan.machines import Benched, keep, kept
    from lwspec.engine.runs.runfolder import Runs
    from lwspec.engine.shapes import shape_of
    from lwspec.report.numbers import _Remembered

    shutil.copytree(world / "models/llama", folder / "llama")
    runs, file = Runs(folder / "runs"), folder / "data.jsonl"
    file.write_text("one\n")
    fingerprints = folder / "fingerprints.json"
    made = Fingerprints(fingerprints)
    made.of(file)
    made.save()
    keep(runs, Benched("cpu", "a processor", 1.0, ASSUMED["cpu"], {"command": ["--threads", "1"]}))
    statistics = folder / "statistics.json"
    remembered = _Remembered(statistics)
    remembered.get(["key"], lambda: {"value": 0.5})
    remembered.save()
    config = folder / "llama/config.json"
    paths = (fingerprints, runs.path / "machines/cpu.json", statistics, config)
    originals = {path: path.read_text() for path in paths}
    seeds = {path: [tokens(text)] for path, text in originals.items()}

    def case(choices: Choices) -> None:
        path = paths[choices.number(len(paths) - 1)]
        choices.note(path.name)
        write(path, agreeing(choices, choices.text(seeds[path])))
        try:
            Fingerprints(fingerprints).of(file)
            _Remembered(statistics).get(["key"], lambda: {"value": 0.5})
            shape_of({"weights": "hash"}, str(config.parent))
            kept(runs, "cpu")
        finally:
            path.write_text(originals[path])

    return case
