"""Which part may import which, and what the light commands must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Project

HEAVY = {
    "alembic",
    "torch",
    "transformers",
    "matplotlib",
    "submitit",
    "datasets",
    "sklearn",
    "scipy.stats",
    "scipy.optimize",
}

ROOTS = {
    "lwspec.errors",
    "lwspec.engine.arm",
    "lwspec.engine.fields",
    "lwspec.engine.job",
    "lwspec.engine.metrics",
    "lwspec.engine.modes",
    "lwspec.engine.redact",
    "lwspec.engine.shapes",
}
"""What all parts of the engine speak of."""

ALLOWED = {
    "cli": {"lwspec.cli", "lwspec.engine", "lwspec.report", "lwspec.kernels.arms", "lwspec.errors"},
    "report": {"lwspec.report", "lwspec.engine", "lwspec.errors"},
    "engine": {"lwspec.engine", "lwspec.errors"},
    "engine/spec": {*ROOTS, "lwspec.engine.spec"},
    "engine/runs": {*ROOTS, "lwspec.engine.runs"},
    "engine/store": {*ROOTS, "lwspec.engine.runs", "lwspec.engine.store"},
    "engine/plan": {
        *ROOTS,
        "lwspec.engine.spec",
        "lwspec.engine.runs",
        "lwspec.engine.store",
        "lwspec.engine.plan",
    },
    "kernels": {
        "lwspec.kernels",
        "lwspec.errors",
        "lwspec.engine.arm",
        "lwspec.engine.runs.checksum",
        "lwspec.engine.plan.cost.Machine",
        "lwspec.engine.runs.evidence",
        "lwspec.engine.plan.fingerprint",
        "lwspec.engine.job",
        "lwspec.engine.metrics",
        "lwspec.engine.modes",
        "lwspec.engine.runs.process",
        "lwspec.engine.redact",
        "lwspec.engine.runs.attempt",
        "lwspec.engine.runs.jsonfile",
        "lwspec.engine.runs.runfolder",
        "lwspec.engine.shapes",
        "lwspec.engine.fields",
    },
}


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name.startswith("lwspec.")}


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_point_one_way(part: str) -> None:
    for file in (ROOT / "lwspec" / part).rglob("*.py"):
        for name in imports(file):
            if name == "lwspec.__version__":
                continue
            allowed = any(name == root or name.startswith(f"{root}.") for root in ALLOWED[part])
            assert allowed, f"{file.relative_to(ROOT)} imports {name}"


def test_only_the_store_the_ingester_and_readers_speak_sql() -> None:
    users = {
        str(file.relative_to(ROOT / "lwspec"))
        for file in (ROOT / "lwspec").rglob("*.py")
        if "sqlalchemy" in file.read_text()
    }
    assert users == {
        "engine/store/database.py",
        "engine/store/sql.py",
        "engine/store/store.py",
        "engine/store/tables.py",
        "engine/store/migrate.py",
        "engine/store/migrations/schema_2.py",
        "engine/store/views.py",
        "engine/store/ingest.py",
        "engine/plan/records.py",
        "report/query.py",
        "report/evidence.py",
    }


@pytest.mark.parametrize(
    "arguments", [["--help"], ["plan", "small.toml"], ["status", "small.toml"]]
)
def test_light_commands_load_nothing_heavy(arguments: list[str], project: Project) -> None:
    script = (
        "import sys\nfrom lwspec.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=project.folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.split("LOADED", 1)[1].split())
    assert not loaded & HEAVY
