"""Whether the promises hold: run folders and database against what jobs themselves witnessed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from faults.fake_work import expected, held, number
from faults.project import Project
from sqlalchemy import select

from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.store import tables as db
from lwspec.engine.store.ingest import ingest
from lwspec.engine.store.store import Store


def look(project: Project) -> None:
    """After each command: what was taken stays taken, by the same attempt, with the same bytes."""
    now = {
        (path.parent.parent.name, path.stem): path.read_text()
        for path in project.runs.glob("*-*/taken/*.json")
    }
    for key, text in project.taken.items():
        if key not in now:
            project.problems.append(f"lost: {key} was taken and is not any more")
        elif now[key] != text:
            project.problems.append(f"changed: the record of {key}")
    project.taken = now


def check(project: Project, everything: bool = True) -> None:
    """The promises, once the plan has ended; `everything` where it should have completed."""
    project.run("status", "small.toml")
    look(project)
    rows = tables(project.folder / "results.db")
    say = project.problems.append
    witnessed = project.witnessed()
    finished = {(w["job"], w["output"], w["attempt"]) for w in witnessed if w["what"] == "finished"}
    recorded = Counter((row["job"], row["output"]) for row in rows["outputs"])
    for row in rows["outputs"]:
        if (row["job"], row["output"], row["attempt"]) not in finished:
            say(f"made up: {row['job']} {row['output']} of attempt {row['attempt']}")
    for (job, output), count in recorded.items():
        if count > 1:
            say(f"recorded twice: {job} {output}")
        _check_link(project.runs / job, output, say)
    for line in witnessed:
        if line["what"] == "taken" and not recorded[line["job"], line["output"]]:
            say(f"lost: {line['job']} {line['output']} of attempt {line['attempt']}")
    _check_rebuilt(project, rows)
    if not project.real:
        _check_numbers(project, rows, everything)


def _check_link(folder: Path, output: str, say: Any) -> None:
    """One attempt's copy is the taken one, and the record names it."""
    taken = folder / "taken" / f"{output}.json"
    if not taken.exists():
        say(f"recorded and not taken: {folder.name} {output}")
        return
    same = [
        path.parent.parent.name
        for path in folder.glob(f"attempt-*/outputs/{output}.json")
        if path.samefile(taken)
    ]
    named = f"attempt-{json.loads(taken.read_text())['attempt']}"
    if same != [named]:
        say(f"{folder.name} {output} is of {same}, and says {named}")


def _check_rebuilt(project: Project, rows: Mapping[str, list[dict[str, Any]]]) -> None:
    """A database made of the run folders alone says the same, row by row."""
    fresh = project.folder / "rebuilt.db"
    fresh.unlink(missing_ok=True)
    ingest(Runs(project.runs), Store(fresh, shared=False))
    rebuilt = tables(fresh)
    for name in rows:
        mine, rebuilt[name] = settled(rows[name]), settled(rebuilt[name])
        if mine != rebuilt[name]:
            other = [row for row in mine if row not in rebuilt[name]][:2]
            theirs = [row for row in rebuilt[name] if row not in mine][:2]
            project.problems.append(f"rebuilt {name} differs: live {other}, rebuilt {theirs}")


def settled(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows without how a folder looked: that says when it was looked at, and is empty for young."""
    looks = ("folder_mtime_ns", "below")
    bare = [{key: row[key] for key in row if key not in looks} for row in rows]
    return in_order(bare)


def in_order(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows in one order, whatever order they were read in."""
    return sorted(map(dict, rows), key=lambda row: json.dumps(row, sort_keys=True, default=str))


def tables(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Every table of a database, its rows in one order."""
    with Store(path, shared=False).read() as connection:
        return {
            table.name: in_order(row._mapping for row in connection.execute(select(table)))
            for table in db.metadata.sorted_tables
        }


def _check_numbers(
    project: Project, rows: Mapping[str, list[dict[str, Any]]], everything: bool
) -> None:
    """Every number is the one that the work makes, counted again from the jobs alone."""
    jobs = {path.parent.name: json.loads(path.read_text()) for path in _submitted(project)}
    texts = expected(jobs)
    scores = {(row["job"], row["output"]): row["value"] for row in rows["metrics"]}
    for key, score in scores.items():
        if score != number(texts[key]):
            project.problems.append(f"wrong: {key} scores {score}, not {number(texts[key])}")
    for row in rows["points"]:
        if row["value"] != number(held(row["job"], row["step"])):
            project.problems.append(f"wrong: a point of {row['job']} at {row['step']}")
    if everything and set(scores) != set(texts):
        project.problems.append(f"missing: {sorted(set(texts) - set(scores))}")


def _submitted(project: Project) -> list[Path]:
    return sorted(project.runs.glob("*-*/job.json"))
