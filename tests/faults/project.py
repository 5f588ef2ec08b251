"""A project of the counting arm, the plan that it declares, and damage done to its files."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faults.commands import TRACEBACK, Ended, command
from faults.inject import Fault

SPEC = """\
schema = 1
name = "small"
arm_files = ["counting.py"]

[budget]
gpu_hours = 1e6
gpu = "cpu"

[resources]
gpus = 0

[retries]
killed = 1000
disk = 1000
code = 1000

[cluster.test]
memory_gb = 1.0
minutes = 60

[models.llama]
toy = "llama"

[models.mistral]
toy = "mistral"

[tasks.one]
kind = "classification"
data = {{ path = "json", data_files = {{ train = "train.jsonl", test = "test.jsonl" }} }}
splits = {{ train = "train", validation = {{ from = "train", rows = 300 }}, test = "test" }}
context = "{{text}}"
label = "label"
labels = ["negative", "positive"]
sender_prompt = "Review: {{context}}"
receiver_prompt = "Review: {{context}}"
query = "Sentiment:"

[[experiment]]
name = "main"
arms = ["counting"]
sender = "llama"
receiver = "mistral"
tasks = ["one"]
seeds = [{seeds}]
train = {{ samples = 100, epochs = 2, batch_size = 10 }}
"""

GOOD = (0, 1, 2, 3, 130)
"""How a command may end, whatever happens to it."""


class Project:
    """One plan in a folder of its own; `problems` is what broke a promise."""

    def __init__(self, seeds: int = 1, folder: Path | None = None) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="faults-"))
        self.folder = (folder or self.home) / "project"
        self.folder.mkdir()
        shutil.copy(Path(__file__).with_name("counting.py"), self.folder)
        for split in ("train", "test"):
            rows = ({"text": f"{split} {n}", "label": n % 2} for n in range(500))
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (self.folder / f"{split}.jsonl").write_text(text)
        self.seeds = 0
        self.grow(seeds)
        self.truth = self.home / "truth.jsonl"
        self.real = False
        self.struck: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.taken: dict[tuple[str, str], str] = {}

    @property
    def runs(self) -> Path:
        """The run folders."""
        return self.folder / "runs"

    def grow(self, seeds: int = 1) -> None:
        """Ask for more seeds: a fit and an evaluation each."""
        self.seeds += seeds
        listed = ", ".join(str(1 + seed) for seed in range(self.seeds))
        (self.folder / "small.toml").write_text(SPEC.format(seeds=listed))

    def run(self, *arguments: str, faults: Sequence[Fault] = ()) -> Ended:
        """A command under faults: it ends as documented, or is killed by one of them."""
        try:
            ended = command(self.folder, self.home, arguments, faults, self.real)
        except TimeoutError as error:
            self.problems.append(str(error))
            return Ended(TRACEBACK, "", ())
        self.struck += ended.struck
        killed = any(each["do"] == "kill" and each["at"] == "command" for each in ended.struck)
        if ended.status not in GOOD and not killed or "Traceback (most" in ended.printed:
            said = "\n".join(ended.printed.splitlines()[-15:])
            self.problems.append(f"`lwspec {' '.join(arguments)}`: exit {ended.status}\n{said}")
        return ended

    def submit(self, *faults: Fault) -> Ended:
        """`lwspec submit` under faults."""
        return self.run("submit", "small.toml", "--yes", faults=faults)

    def finish(self) -> None:
        """What a person does once all is quiet: submit, and retry what failed, until it is done."""
        ended = self.submit()
        for _ in range(3):
            if ended.status == 0:
                return
            self.run("retry", "small.toml", "--yes")
            ended = self.submit()
        said = "\n".join(ended.printed.splitlines()[-15:])
        self.problems.append(f"the plan does not complete: exit {ended.status}\n{said}")

    def witnessed(self) -> list[dict[str, Any]]:
        """What jobs finished, and what was taken, as they said it to the test."""
        lines = self.truth.read_text().splitlines() if self.truth.exists() else []
        return [json.loads(line) for line in lines]

    def remove(self) -> None:
        """Drop its folder, where nothing is wrong."""
        if not self.problems:
            shutil.rmtree(self.home, ignore_errors=True)  # SQLite may be tidying up itself
            shutil.rmtree(self.folder, ignore_errors=True)


def damage(path: Path, source: random.Random, cut: bool = False) -> str:
    """Cut a file short or, unless only that is wanted, turn one of its bits; what was done."""
    raw = bytearray(path.read_bytes())
    if source.random() < 0.4 or cut:
        raw = raw[: source.randrange(len(raw))]
        done = "truncated"
    else:
        raw[source.randrange(len(raw))] ^= 1 << source.randrange(8)
        done = "bit-flipped"
    path.write_bytes(raw)
    return done
