"""Secrets of the environment reach no file and no screen, whatever raises, prints or records."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Project
from test_own_arm import EXAMPLE

from lwspec.engine.executors import allocation
from lwspec.engine.redact import is_secret, read_redacted, redact, redact_stream
from lwspec.engine.runs.evidence import git_state

CANARY = "canary"
"""Part of every secret, and of nothing else."""

SECRETS = {
    "HF_TOKEN": "hf-canary-1",
    "WANDB_API_KEY": "canary2canary2",
    "AWS_SECRET_ACCESS_KEY": "canary/3+x",
    "MY_DB_PASSWORD": "canary four",
    "SLURM_JWT": "canary.5",
}

LEAK = """
    import logging, os, sys, warnings
    if setup.settings.words == 4:
        print(os.environ["HF_TOKEN"], flush=True)
        os.write(1, b"by a program: " + os.environ["SLURM_JWT"].encode() + b"\\n")
        print(dict(os.environ), file=sys.stderr)
        warnings.warn("key " + os.environ["WANDB_API_KEY"])
        logging.warning("Authorization: Bearer canary6")
    else:
        url = "https://me:canary7@example.org/set?token=canary8"
        raise ValueError(f"401 for {url} with {os.environ['MY_DB_PASSWORD']}")
"""


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "token", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD_X_PASSWORD",
             "SLURM_JWT", "GOOGLE_APPLICATION_CREDENTIALS", "DB_PASS", "CI_PAT"],
)  # fmt: skip
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)
    assert not any(is_secret(other) for other in ("PATH", "MONKEY", "COMPASS", "PATTERN"))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("postgresql://me:canary@host/db", "postgresql://[removed]@host/db"),
        ("https://canary@github.com/x", "https://[removed]@github.com/x"),
        ("Authorization: Basic canary==", "Authorization: [removed]"),
        ("{'authorization': 'Bearer canary'}", "{'authorization': '[removed]'}"),
        ("GET /x?a=1&X-Amz-Signature=canary&b=2", "GET /x?a=1&X-Amz-Signature=[removed]&b=2"),
        ("with hf_canarycanarycanary.", "with [removed]."),
        ("key AKIACANARYCANARYCANA", "key [removed]"),
        ("now canary2canary2!", "now [removed: WANDB_API_KEY]!"),
    ],
)
def test_what_is_a_secret_is_taken_out(text: str, left: str) -> None:
    assert redact(text, SECRETS) == left


@pytest.mark.parametrize(
    "text", ["accuracy 0.5 at https://example.org/a@b?rows=3", "token 5 of 8", "a@b.org", "key = 1"]
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text, {**SECRETS, "SHORT_KEY": "key"}) == text


def test_a_stream_is_redacted_for_those_who_hold_it_already() -> None:
    stream = io.StringIO()
    held = stream
    redact_stream(stream)
    print("Authorization: Bearer canary", file=held)
    assert stream.getvalue() == "Authorization: [removed]\n"


def test_what_another_program_printed_is_redacted_where_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "a canary")
    log = tmp_path / "log.txt"
    log.write_text("begun\nsub a canary\n")
    assert read_redacted(log) == "begun\nsub [removed: HF_TOKEN]\n"
    assert read_redacted(log, 15) == "sub [removed: HF_TOKEN]\n"


def test_the_difference_to_a_commit_is_redacted(tmp_path: Path) -> None:
    package = tmp_path / "lwspec"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b",
                                                   "commit", "-qm", "a"]):  # fmt: skip
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (package / "__init__.py").write_text('URL = "https://me:canary@example.org"\n')
    (package / "new.py").write_text('TOKEN = "hf_canarycanarycanary"\n')
    (package / ".env").write_text("HF_TOKEN=canary\n")
    diff = git_state(tmp_path)["diff"]
    assert CANARY not in diff
    assert diff.count("[removed]") == 2 and ".env" not in diff


def test_an_allocation_records_no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JWT", "canary")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    allocation._start(tmp_path, 0)
    (path,) = tmp_path.glob("*.started.json")
    assert json.loads(path.read_text())["slurm"]["SLURM_JOB_ID"] == "12"
    assert CANARY not in path.read_text()


def test_no_file_and_no_screen_shows_a_secret(project: Project) -> None:
    project.keep("direct")
    text = project.spec.read_text()
    head, _, tail = text.partition("[[experiment]]")
    tail = "[[table]]" + tail.partition("[[table]]")[2]
    own = (
        'name = "{}"\narms = ["last_words", "no_message"]\nseeds = [1]\n'
        "last_words = {{ words = {} }}\n\n"
    )
    blocks = "".join(f"[[experiment]]\n{own.format(*each)}" for each in (("direct", 4), ("b", 5)))
    project.write('arm_files = ["last_words.py"]\n' + head + blocks + tail)
    lines = EXAMPLE.splitlines(keepends=True)
    body = next(n for n, line in enumerate(lines) if "What crosses" in line)
    lines.insert(body + 1, LEAK)
    (project.folder / "last_words.py").write_text("".join(lines))
    environment = {**ENVIRONMENT, **SECRETS}
    printed = ""
    for verb in (["plan", "small.toml"], ["submit"], ["status"], ["logs", "last_words"],
                 ["why", "main", "--json"],
                 ["report", "--html", "page.html", "--paper", "paper"]):  # fmt: skip
        done = subprocess.run(
            project.command(*verb), cwd=project.folder, env=environment, capture_output=True,
            text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        printed += done.stdout + done.stderr
    ends = [json.loads(path.read_text()) for path in project.runs.glob("*/attempt-*/exit.json")]
    failed = [str(end["message"]) for end in ends if end["outcome"] != "finished"]
    assert len(failed) == 1 and "[removed: MY_DB_PASSWORD]" in failed[0], failed
    logs = [p.read_text() for p in project.runs.glob("*/attempt-*/log.txt")]
    assert any("[removed: HF_TOKEN]" in log for log in logs)
    assert (project.folder / "page.html").exists() and "last_words" in printed
    assert CANARY not in printed and "by a program: [removed: SLURM_JWT]" in printed
    made = [project.folder / name for name in project.files() if Path(name).name != "last_words.py"]
    files = [path for path in made if path.is_file() and "__pycache__" not in path.parts]
    assert len(files) > 20
    by_a_program = b"by a program: canary.5"  # which no log is kept from
    assert not [p for p in files if CANARY.encode() in p.read_bytes().replace(by_a_program, b"")]
    assert not [path for path in made if path.stat().st_mode & 0o002]
