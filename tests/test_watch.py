"""`status --watch`, in a real terminal and in a pipe, over jobs that count without any science."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest
from conftest import ROOT
from slurm.fixtures import FAKE, HEAD, TAIL, TASK

from lwspec.cli.session import Session, open_session
from lwspec.cli.watching.pace import Paces, count, pace
from lwspec.cli.watching.screen import changes, duration, screen, share_out
from lwspec.cli.watching.view import Failure, Progress, View, look, useful_line
from lwspec.engine.executors.submit import LOCAL, write_jobs
from lwspec.engine.runs.jsonfile import write_record
from lwspec.engine.runs.lock import STARTING, held, only_one
from lwspec.engine.runs.states import State

CONTROL = re.compile(r"\x1b|\r(?!\n)")


class Watched:
    """A project whose jobs are started one by one, by hand, and looked at meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ("t0", "t1")
        bodies = "".join(TASK.format(name=name, seed=n) for n, name in enumerate(names))
        tail = TAIL.format(tasks=", ".join(f'"{name}"' for name in names))
        (folder / "small.toml").write_text(HEAD + bodies + tail)
        self.started: list[subprocess.Popen[Any]] = []

    def session(self) -> Session:
        return open_session(
            self.folder / "small.toml", self.folder / "results.db", self.folder / "runs"
        )

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join([str(FAKE), str(ROOT)]),
            "LWSPEC_TEST_CONTROL": str(self.folder / "control.json"),
            "LANG": "C.UTF-8",
            "PYTHONUTF8": "1",
            **more,
        }

    def start(self, label: str, **plan: Any) -> None:
        """Start the job of a label, which does as planned."""
        path = self.folder / "control.json"
        table = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**table, label: plan}))
        found = self.session()
        if not (self.folder / "runs" / "plans" / "small.submitted.json").exists():
            write_jobs(found.plan, found.runs, dict.fromkeys(found.plan.to_run, 600.0), LOCAL)
            found.memory.remember_submitted(found.plan)
        (job,) = [job for job in found.plan.expansion.jobs.values() if job.label == label]
        self.started.append(
            subprocess.Popen(
                [sys.executable, "-m", "lwspec.kernels.run", str(found.runs.folder(job.id).path)],
                cwd=self.folder, env=self.environment(),
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip
        until(lambda: list(found.runs.folder(job.id).path.glob("attempt-1/events.jsonl")))

    def command(self) -> list[str]:
        return [sys.executable, "-m", "lwspec", "status", "small.toml", "--watch"]

    def stop(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.stop()


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Terminal:
    """A pseudo-terminal of 24 lines of 80 columns, with a command in it."""

    def __init__(self, project: Watched, **environment: str) -> None:
        self.raw = b""
        self.screens: list[list[str]] = []
        self.display = pyte.Screen(80, 24)
        self._stream = pyte.ByteStream(self.display)
        self._fd, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            project.command(), cwd=project.folder, stdin=inner, stdout=inner, stderr=inner,
            env=project.environment(TERM="xterm-256color", **environment),
        )  # fmt: skip
        os.close(inner)

    def read(self) -> bool:
        """What came next; False at the end."""
        ready, _, _ = select.select([self._fd], [], [], 60)
        if not ready:
            self.process.kill()
            raise AssertionError(f"nothing more was shown: {self.raw!r}")
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # nobody holds the other side
            return False
        self.raw += data
        self._stream.feed(data)
        self.screens.append([line.rstrip() for line in self.display.display])
        return bool(data)

    def run(self) -> int:
        while self.read():
            pass
        os.close(self._fd)
        return self.process.wait()

    def until(self, text: str) -> list[str]:
        """Read until a text is on the screen; the screen."""
        while self.read():
            if any(text in line for line in self.screens[-1]):
                return self.screens[-1]
        raise AssertionError(f"{text!r} was never shown: {self.raw!r}")


def test_a_terminal_shows_one_calm_screen(project: Watched) -> None:
    project.start("data t1", seconds=600)
    terminal = Terminal(project)
    first = terminal.until("steps/s")
    assert first[0].startswith("small · 0 of 5 jobs done · 1 running · about "), first
    assert first[1].startswith("hours of cpu: 0.00") and " spent of 1000.00 · " in first[1]
    assert any(re.match(r"main +0/5 +█*░+ +\d+%", line) for line in first), first
    assert any(re.match(r"prepare data t1 +counting \d+/12000 ", line) for line in first), first
    project.start("data t0", seconds=0.1, do="raise")
    failed = terminal.until("[code]")
    assert "prepare data t0 [code] ValueError: this job was told to fail" in failed
    project.start("toy mistral", seconds=0.1)
    assert terminal.until("1 of 5 jobs done")[0].startswith("small · 1 of 5 jobs done · ")
    project.started[0].terminate()
    assert terminal.run() == 1
    assert "prepare data t1: lwspec submit goes on with it" in "\n".join(terminal.screens[-1])
    assert terminal.raw.count(b"\x1b[2J") <= 1, "a screen that is cleared each time flickers"


def test_without_colour_it_shows_the_same(project: Watched) -> None:
    project.start("data t1", seconds=600)
    project.start("data t0", seconds=0.1, do="raise")
    terminal = Terminal(project, NO_COLOR="1")
    terminal.until("[code]")
    project.started[0].terminate()
    terminal.run()
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", terminal.raw)


def test_a_pipe_gets_a_line_for_each_change_and_no_control_codes(project: Watched) -> None:
    project.start("data t1", seconds=600)
    told = project.folder / "told.txt"
    with told.open("w") as out:
        watching = subprocess.Popen(
            project.command(), cwd=project.folder, env=project.environment(), stdout=out,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    until(lambda: "running     prepare data t1 (0 of 5 done)" in told.read_text())
    project.start("data t0", seconds=0.1, do="raise")
    project.started[1].wait()
    until(lambda: "[code]" in told.read_text())
    project.start("toy mistral", seconds=0.1)
    project.started[2].wait()
    until(lambda: "done        prepare toy mistral (1 of 5 done)" in told.read_text())
    project.started[0].terminate()
    assert watching.wait(60) == 1
    assert not CONTROL.search(told.read_text())
    lines = [re.sub(r"^[0-9:]{8} ", "", line) for line in told.read_text().splitlines()]
    assert lines[0].startswith("small · 0 of 5 jobs done · 1 running")
    failed = "failed      prepare data t0 [code] ValueError: this job was told to fail"
    assert f"{failed} (0 of 5 done)" in lines
    assert "interrupted prepare data t1 (1 of 5 done)" in lines
    assert len(lines) == len(set(lines)) <= 12, lines


def test_what_was_killed_is_shown_with_the_end_of_its_log(project: Watched) -> None:
    project.start("data t0", seconds=0.1, do="raise")
    project.started[0].wait()
    (attempt,) = (project.folder / "runs").glob("prepare-*/attempt-1")
    ended = json.loads((attempt / "exit.json").read_text())
    write_record(attempt / "exit.json", {**ended, "message": None})
    view = look(project.session(), Paces(), starting=False)
    assert view.failures == (
        Failure("prepare data t0", "code", "", "ValueError: this job was told to fail"),
    )
    assert view.left_s is None


def test_time_left_counts_paces_and_what_waits_for_them(project: Watched) -> None:
    project.start("data t0", seconds=60.0)
    found, paces = project.session(), Paces()
    (folder,) = (project.folder / "runs").glob("prepare-*/attempt-1")
    until(lambda: (folder / "events.jsonl").read_text().count("progress") > 2)
    alone = look(found, paces, starting=False)
    assert alone.left_s is not None and 20 < alone.left_s < 200
    ((_, its),) = alone.running
    assert its is not None and its.left_s == alone.left_s
    job = folder.parent.name
    others = [price.p50_hours for name, price in found.plan.prices.items() if name != job]
    priced = sum(others) * 3600
    whole = look(found, paces, starting=True)
    ((_, now),) = whole.running  # the pace has moved on since the other look
    assert now is not None and now.left_s is not None
    assert whole.left_s == pytest.approx(now.left_s + priced, rel=1e-6)


def event(at: float, done: int, total: int, what: str = "epoch 1") -> dict[str, Any]:
    return {"event": "progress", "time": at, "done": done, "total": total, "what": what}


def test_rates_are_of_the_last_minute_and_survive_validation() -> None:
    steps = [event(t, 10 * t, 1000) for t in range(50)]
    counts = count({}, [*steps, event(50, 5, 200, "scoring"), event(52, 105, 200, "scoring")])
    now = pace(counts, event(52, 105, 200, "scoring"))
    assert str(now) == "scoring 105/200 50.0 items/s"
    assert now.left_s == pytest.approx((1000 - 490) / 10)
    slower = count(counts, [event(t, 490 + (t - 50), 1000) for t in range(120, 150)])
    assert pace(slower, event(149, 589, 1000)).per_s == pytest.approx(1.0)
    anew = count(slower, [event(150, 3, 1000), event(151, 13, 1000)])
    assert pace(anew, event(151, 13, 1000)).per_s == pytest.approx(10.0)
    first = count({}, [event(0, 3, 1000)])
    assert pace(first, event(0, 3, 1000)).per_s is None


def made_up(experiments: int, failures: int, running: int, notes: int = 0) -> View:
    """A view of many things, for a screen that has no room for them."""
    bad = [Failure(f"fit number {n}", "code", "it broke " * 20, "a log") for n in range(failures)]
    states = {f"job {n}": State.FAILED for n in range(3)}
    return View(
        "many", "cpu", 9.0, 1.0, 1.0, 7.0, 2.0, 60.0, states,
        tuple(
            Progress(f"experiment {n}", {State.DONE: n % 2, State.WAITING: 1 - n % 2}, n % 2, None)
            for n in range(experiments)
        ),
        tuple((f"fit {n}", None) for n in range(running)), tuple(bad),
        tuple(f"note {n}" for n in range(notes)),
    )  # fmt: skip


@pytest.mark.parametrize("height", [3, 10, 24, 80])
@pytest.mark.parametrize("width", [20, 80, 200])
def test_whatever_there_is_it_fits(width: int, height: int) -> None:
    lines = screen(made_up(40, 15, 30, 9), width, height)
    assert len(lines) <= height
    assert all(line.cell_len <= width for line in lines)


def test_what_is_done_gives_way_first() -> None:
    text = "\n".join(line.plain for line in screen(made_up(20, 2, 2), 80, 24))
    assert "experiment 0 " in text and "experiment 2 " in text and "experiment 1 " not in text
    assert re.search(r"^and \d+ more$", text, re.M)
    assert "fit number 1 [code] it broke" in text and "  a log" in text
    assert share_out([2, 9, 3], 10) == [2, 5, 3]
    assert share_out([2, 9], 50) == [2, 9]


def test_changes_are_told_once() -> None:
    view = made_up(1, 0, 0)
    first = changes(None, view)
    assert first[0].startswith("many · 0 of 3 jobs done · 3 failed") and len(first) == 4
    assert changes(view.states, view) == []


def test_where_there_is_no_unicode_there_is_a_bar_too() -> None:
    lines = screen(made_up(2, 0, 0), 80, 24, ascii_only=True)
    assert any("############ 100%" in line.plain for line in lines)


@pytest.mark.parametrize(
    ("log", "line"),
    [
        ("", ""),
        (
            "no error so far\nTraceback (most recent call last):\n  File x\n    y\nKeyError: 'z'\n",
            "KeyError: 'z'",
        ),
        (
            "loading\nslurmstepd: error: Exceeded memory\nbye\n",
            "slurmstepd: error: Exceeded memory",
        ),
        ("one\ntwo\n", "two"),
    ],
)
def test_the_line_of_a_log_that_says_what_went_wrong(log: str, line: str) -> None:
    assert useful_line(log) == line


def test_times_are_said_as_people_say_them() -> None:
    assert [duration(s) for s in (0.2, 89, 91, 7200, 4 * 86400)] == [
        "1 s", "89 s", "2 min", "2.0 h", "4.0 days",
    ]  # fmt: skip


def test_who_starts_jobs_is_known_without_taking_their_place(tmp_path: Path) -> None:
    assert not held(tmp_path)
    holder = (
        "import sys, time; from pathlib import Path\n"
        "from lwspec.engine.runs.lock import STARTING, only_one\n"
        "with only_one(Path(sys.argv[1]), STARTING): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert held(tmp_path)
        process.kill()
    assert not held(tmp_path)
    with only_one(tmp_path, STARTING):
        pass
