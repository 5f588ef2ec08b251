"""The error catalogue: each example provokes an error, and holds what is printed.

An example stands in `tests/errors/*.toml`: files and edits that make a folder wrong, a command, and
the text and the exit status that it ends with. Commands run in this process. `make errors` writes
the texts anew.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from raised import places

from lwspec.cli import main

FOLDER = Path(__file__).parent / "errors"
COMMON = ("train.csv", "test.csv", "paper.tex")
"""What stands beside every example's spec, `spec.toml`."""
WORLD = {"COLUMNS": "100", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
PRINTED = re.compile(r"^(printed = '''\n.*?''')$", re.M | re.S)


@dataclass(frozen=True)
class Example:
    """One way to meet an error."""

    group: str
    """The file of examples that it stands in."""
    name: str
    title: str
    command: str
    printed: str
    status: int = 2
    change: tuple[tuple[str, str], ...] = ()
    """Edits of the spec: what is replaced, and by what."""
    add: str = ""
    """What is written behind the spec."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files of its own, by path."""
    before: tuple[str, ...] = ()
    """Commands that come first, and end with 0."""
    finished: bool = False
    """Whether the folder begins as one whose plan, of `run.toml`, has run."""
    damage: Mapping[str, str] = field(default_factory=dict)
    """What is written over files, by patterns of their paths, before the command."""
    delete: tuple[str, ...] = ()
    """Patterns of what is deleted before the command."""
    cluster: str = ""
    """The folder beside the examples with the programs of the cluster to which the machine belongs;
    by default it belongs to none."""
    jobs: bool = False
    """Whether it starts jobs: its commands then have processes of their own."""
    lines: str = ""
    """A pattern: of what is printed, only the lines that it finds are told."""

    def write(self, folder: Path, finished: Callable[[], Path]) -> None:
        """Make the folder in which the error is met."""
        if self.finished:
            shutil.copytree(finished(), folder, symlinks=True, dirs_exist_ok=True)
        for name in COMMON:
            shutil.copy(FOLDER / name, folder / name)
        text = (FOLDER / ("run.toml" if self.finished else "base.toml")).read_text("utf-8")
        for old, new in self.change:
            assert text.count(old) == 1, f"{self.name}: {old!r} is there {text.count(old)} times"
            text = text.replace(old, new)
        (folder / "spec.toml").write_text(text + self.add, encoding="utf-8")
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content, encoding="utf-8")

    def harm(self, folder: Path) -> None:
        """Damage and delete what the example says."""
        for pattern, content in self.damage.items():
            for path in _found(folder, pattern):
                path.unlink()  # files of one content may be one file
                path.write_text(content, encoding="utf-8")
        for pattern in self.delete:
            for path in _found(folder, pattern):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _found(folder: Path, pattern: str) -> list[Path]:
    found = sorted(folder.glob(pattern))
    assert found, f"nothing is called {pattern}"
    return found


@dataclass(frozen=True)
class Group:
    """Examples that belong together: one section of the page."""

    title: str
    about: str
    examples: tuple[Example, ...]


def groups() -> list[Group]:
    """Every example, in the order of the files' `place`."""
    read = [(path, tomllib.loads(path.read_text("utf-8"))) for path in FOLDER.glob("*.toml")]
    found = [(path, raw) for path, raw in read if "about" in raw]
    return [
        Group(raw["title"], raw["about"], tuple(_examples(path, raw["example"])))
        for path, raw in sorted(found, key=lambda each: each[1]["place"])
    ]


def _examples(path: Path, raw: list[dict[str, object]]) -> Iterator[Example]:
    for each in raw:
        values = {k: tuple(map(_frozen, v)) if isinstance(v, list) else v for k, v in each.items()}
        yield Example(group=path.stem, **values)  # type: ignore[arg-type]


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def run(command: str, *, jobs: bool = False) -> tuple[int, str]:
    """A command's exit status and all that it prints."""
    said = io.StringIO()
    program, *arguments = shlex.split(command)
    assert program == "lwspec"
    if jobs:
        whole = [sys.executable, "-m", "lwspec", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent.parent)}
        done = subprocess.run(
            whole, env=environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240,
        )  # fmt: skip
        return done.returncode, done.stdout
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            status = main(arguments)
        except SystemExit as end:  # argparse's way to say that a command is wrong
            status = int(end.code or 0)
    return status, said.getvalue()


def finish(folder: Path, world: Path) -> None:
    """Run the plan of `run.toml` on a tiny pair of models."""
    for name in ("models", "data"):
        (folder / name).symlink_to(world / name)
    for name in COMMON:
        shutil.copy(FOLDER / name, folder / name)
    shutil.copy(FOLDER / "run.toml", folder / "spec.toml")
    with contextlib.chdir(folder), mock.patch.dict(os.environ, WORLD):
        status, said = run("lwspec submit spec.toml --yes", jobs=True)
    assert status == 0, said


@contextlib.contextmanager
def _machine(example: Example, folder: Path) -> Iterator[None]:
    """Only git is installed, and the cluster's programs where there is one: no LaTeX, no SLURM."""
    with tempfile.TemporaryDirectory() as place:
        git = shutil.which("git")
        assert git is not None
        (Path(place) / "git").symlink_to(git)
        programs = [place, str(FOLDER / example.cluster)] if example.cluster else [place]
        path = os.environ["PATH"] if example.jobs else os.pathsep.join(programs)
        with mock.patch.dict(os.environ, {**WORLD, "PATH": path, "HOME": str(folder)}):
            yield


def meet(example: Example, folder: Path, finished: Callable[[], Path]) -> tuple[int, str]:
    """Provoke an error in an empty folder; the exit status, and what is told of the text."""
    example.write(folder, finished)
    with _machine(example, folder), contextlib.chdir(folder):
        for command in example.before:
            status, said = run(command, jobs=example.jobs)
            assert status == 0, said
        example.harm(folder)
        status, said = run(example.command, jobs=example.jobs)
    told = said.replace(str(folder), "/project").replace("/project/.config", "~/.config")
    told = re.sub(r"this machine has \d+", "this machine has N", told)
    told = re.sub(r"\b([a-z]+)-[0-9a-f]{8,}", r"\1-ID", told)
    lines = [line for line in told.splitlines() if re.search(example.lines, line)]
    return status, "".join(f"{line.rstrip()}\n" for line in lines)


def record() -> None:
    """Write what every example prints now, and which messages none of them shows.

    The exit status is the author's.
    """
    from conftest import make_pair, make_rows

    with tempfile.TemporaryDirectory() as scratch:
        world, done = Path(scratch).resolve() / "world", Path(scratch).resolve() / "done"
        make_pair(world / "models")
        make_rows(world / "data")
        done.mkdir()
        finish(done, world)
        for group in groups():
            said = [_told(example, lambda: done) for example in group.examples]
            path = FOLDER / f"{group.examples[0].group}.toml"
            texts = iter(f"printed = '''\n{text}'''" for text in said)
            old = path.read_text(encoding="utf-8")
            new = "".join(
                next(texts) if PRINTED.fullmatch(part) else part for part in PRINTED.split(old)
            )
            path.write_text(new, encoding="utf-8")
    printed = "".join(example.printed for group in groups() for example in group.examples)
    lacking = [str(place) for place in places() if not place.said_in(printed)]
    (FOLDER / "lacking.txt").write_text("\n".join(lacking) + "\n", encoding="utf-8")


def _told(example: Example, finished: Callable[[], Path]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        status, text = meet(example, Path(folder).resolve(), finished)
    assert status == example.status, f"{example.name}: {status}\n{text}"
    assert "'''" not in text, example.name
    return text


if __name__ == "__main__":
    record()
