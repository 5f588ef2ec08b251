"""One target in a process of its own: cases until there were enough, counted in a file.

python -m tests.fuzz.process TARGET COUNT SECONDS SEED WORLD FIGURES
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NoReturn

import atheris

from tests.fuzz.guard import Guard, Refused
from tests.fuzz.mutation import Choices

MOST_BYTES = 96
"""Of the fuzzer's input: what a case decides takes no more."""
MEMORY = 24 * 2**30
"""Address space, of which torch alone reserves some: beyond it, a case ends in MemoryError."""
SHOWN = 4000


class Counter:
    """Runs cases and counts how they end."""

    def __init__(self, target: str, count: int, seconds: float, seed: int, figures: Path) -> None:
        self.figures, self.count, self.seconds = figures, count, seconds
        self.told = {"target": target, "seed": seed, "cases": 0, "refused": 0, "slowest_s": 0.0}
        self.failures: dict[str, dict[str, object]] = {}

    def begin(self, world: Path, folder: Path) -> None:
        """Make the target ready, in its folder."""
        from lwspec.errors import LwspecError
        from tests.fuzz.targets import TARGETS

        self._error = LwspecError
        self._case = TARGETS[str(self.told["target"])].prepare(world, folder)
        self._guard = Guard(folder)
        self._since, self._cpu = time.monotonic(), time.process_time()

    def one(self, data: bytes) -> None:
        """One case."""
        choices, began = Choices(data), time.process_time()
        try:
            with self._guard.watching():
                self._case(choices)
        except self._error as error:
            self.told["refused"] += 1
            if not str(error).strip():
                self._fail(error, choices)
        except SystemExit as error:
            self.told["refused"] += 1
            if error.code not in (0, 2):
                self._fail(error, choices)
        except (Exception, Refused) as error:
            self._fail(error, choices)
        self.told["cases"] += 1
        self.told["slowest_s"] = max(self.told["slowest_s"], time.process_time() - began)
        late = time.process_time() - self._cpu > self.seconds
        if self.told["cases"] >= self.count or late:
            self.end()

    def end(self) -> NoReturn:
        """Write the figures; the fuzzer's own end writes none."""
        self.told["seconds"] = time.monotonic() - self._since
        self.told["cpu_s"] = time.process_time() - self._cpu
        self.told["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.told["failures"] = list(self.failures.values())
        self.figures.write_text(json.dumps(self.told, indent=1))
        sys.stderr.flush()
        os._exit(0)

    def _fail(self, error: BaseException, choices: Choices) -> None:
        """One failure for each kind of error and the line of lwspec that it came from."""
        frames = traceback.extract_tb(error.__traceback__)
        ours = [
            f"{frame.filename}:{frame.lineno}" for frame in frames if "/lwspec/" in frame.filename
        ]
        key = f"{type(error).__name__} {ours[-1] if ours else ''}"
        known = self.failures.setdefault(key, {"times": 0})
        known["times"] = int(str(known["times"])) + 1
        made = [ascii(each) for each in choices.made]
        if "made" not in known or sum(map(len, made)) < sum(map(len, known["made"])):  # type: ignore[arg-type]
            known |= {
                "error": f"{type(error).__name__}: {error}"[:SHOWN],
                "where": ours[-3:],
                "made": made,
            }


def main(target: str, count: int, seconds: float, seed: int, world: Path, figures: Path) -> None:
    """Fuzz one target; never returns."""
    sys.dont_write_bytecode = True
    sys.setrecursionlimit(1000)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    counter = Counter(target, count, seconds, seed, figures)
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as name:
        folder, corpus = Path(name) / "target", Path(name) / "corpus"
        folder.mkdir()
        corpus.mkdir()
        source = random.Random(seed)
        for number in range(64):
            (corpus / str(number)).write_bytes(source.randbytes(MOST_BYTES))
        with atheris.instrument_imports(include=["lwspec"]):
            os.chdir(folder)
            counter.begin(world, folder)
        options = [f"-seed={seed}", f"-max_len={MOST_BYTES}", "-timeout=0", "-rss_limit_mb=0"]
        options += ["-report_slow_units=600"]
        atheris.Setup(["fuzz", str(corpus), "-len_control=0", *options], counter.one)
        atheris.Fuzz()


if __name__ == "__main__":
    name, count, seconds, seed, world, figures = sys.argv[1:]
    main(name, int(count), float(seconds), int(seed), Path(world), Path(figures))
