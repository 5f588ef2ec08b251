"""The work of a job without any science: what it does stands in a file that the test writes.

`control.json` maps a part of a job's label to {"seconds": how long, "do": what happens then}.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STEP_S = 0.05


def work(attempt: Any) -> Iterator[None]:
    """Count steps, with a checkpoint when asked to stop, and deliver every output."""
    yield from ()  # the receiver is never asked
    plan = behaviour(attempt.job.label)
    begun = resumed_from = newest_checkpoint(attempt)
    steps = int(plan["seconds"] / STEP_S)
    child = os.fork() if plan.get("fork") else None
    if child == 0:  # as a data loader's worker: it inherits the handlers
        time.sleep(2 * plan["seconds"])
        os._exit(0)
    while begun < steps:
        reason = attempt.why_stop()
        if reason is not None and plan["do"] != "deaf":
            (attempt.path / "checkpoint.json").write_text(json.dumps(begun))
            raise reason
        time.sleep(STEP_S)
        begun += 1
        attempt.progress(begun, steps, "counting")
    if plan["do"] == "raise":
        raise ValueError("this job was told to fail")
    if plan["do"] == "exit":
        os._exit(0)
    if plan["do"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    for output in attempt.owed():
        if plan["do"] == "half" and attempt.path.name == "attempt-1":
            attempt.path.joinpath("outputs").mkdir(exist_ok=True)
            attempt.path.joinpath(f"outputs/.{output}.json.{os.getpid()}").write_text('{"metr')
            os.kill(os.getpid(), signal.SIGKILL)
        path = attempt.path / f"{output}.txt"
        path.write_text(f"{attempt.job.id} {output}\n")
        attempt.take(output, [path], {}, {"resumed_from": resumed_from})


def behaviour(label: str) -> dict[str, Any]:
    path = Path(os.environ["LWSPEC_TEST_CONTROL"])
    table = json.loads(path.read_text()) if path.exists() else {}
    for part, plan in table.items():
        if part in label:
            return {"seconds": 0.1, "do": "finish", **plan}
    return {"seconds": 0.1, "do": "finish"}


def newest_checkpoint(attempt: Any) -> int:
    found = [
        int(json.loads((other.path / "checkpoint.json").read_text()))
        for other in attempt.job_folder.attempts()
        if (other.path / "checkpoint.json").exists()
    ]
    return max(found, default=0)
