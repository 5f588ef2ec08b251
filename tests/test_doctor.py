"""What `lwspec doctor` says of this machine, and of ones that lack something."""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from conftest import ENVIRONMENT, Project

from lwspec.cli.doctor import Finding, _cached, main


def doctor(project: Project, *arguments: str, **environment: str) -> tuple[int, str]:
    """Exit status and what was said, in single spaces."""
    done = subprocess.run(
        project.command("doctor", *arguments),
        cwd=project.folder,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "COLUMNS": "40", **environment},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, " ".join(done.stdout.split())


def test_what_is_missing_is_said_with_what_mends_it(project: Project, tmp_path: Path) -> None:
    empty = tmp_path / "programs"
    empty.mkdir()
    status, said = doctor(project, "small.toml", PATH=str(empty))
    assert status == 0
    assert "ok gpu not needed by this spec" in said
    assert "ok slurm not needed by this spec" in said
    assert "ok hub not needed by this spec" in said
    assert "latex no latexmk mend: apt install latexmk" in said
    assert "GB free for runs" in said
    assert "model" not in said.split("hub")[0].split("latex")[1]


def test_a_hub_that_does_not_answer_is_said_of_each_model(project: Project) -> None:
    project.change('path = "models/llama"', 'path = "some/where"')
    status, said = doctor(project, "small.toml", HF_HUB_OFFLINE="1")
    assert "no model some/where: the hub does not answer (OfflineModeIsEnabled)" in said
    assert "models/mistral" not in said
    assert status == 1


def test_a_model_that_was_fetched_needs_no_hub(project: Project, tmp_path: Path) -> None:
    project.change('path = "models/llama"', 'path = "some/where"')
    cache = tmp_path / "cache" / "models--some--where"
    fetched = cache / "snapshots" / "abc"
    fetched.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    (fetched / "config.json").touch()
    here = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "cache")}
    assert doctor(project, "small.toml", **here)[0] == 1
    (fetched / "model.safetensors").touch()
    status, said = doctor(project, "small.toml", **here)
    assert "ok model some/where is in the cache" in said
    assert status == 0


def test_a_finding_is_one_line_however_narrow_the_pipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(*_: object) -> Iterator[Finding]:
        yield Finding("latex", "note", "[x] " + 30 * "wide ", "narrow " + 30 * "it ")

    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("lwspec.cli.doctor.look", found)
    main(argparse.Namespace(spec=None, runs=tmp_path))
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"-- latex     [x] {30 * 'wide '}".rstrip() + " "
    assert second.strip() == f"mend: narrow {30 * 'it '}".strip()


def test_a_torch_that_cannot_be_imported_is_broken(project: Project, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open')\n")
    path = os.pathsep.join([str(tmp_path), ENVIRONMENT["PYTHONPATH"]])
    status, said = doctor(project, PYTHONPATH=path)
    assert status == 1
    assert "no torch ImportError: libcudart.so.12: cannot open" in said


def test_a_wrong_spec_is_said_as_everywhere(project: Project) -> None:
    project.change('dtype = "float32"', 'dtype = "float31"')
    project.run("doctor", "small.toml", status=2)


def test_weights_count_as_fetched_only_where_every_shard_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.json"
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: str(config))
    assert not _cached("a/b", None)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "1", "y": "2"}}')
    (tmp_path / "1").touch()
    assert not _cached("a/b", None)
    (tmp_path / "2").touch()
    assert _cached("a/b", None)
