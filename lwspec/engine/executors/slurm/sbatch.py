"""submitit's SLURM executor with a command of ours in place of its pickles.

A pickle ties a queued job to files that are moved after `sbatch` returns, and to handlers that
every child of the job inherits; a run folder needs neither.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import clean_env
from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from lwspec.errors import BusyError, ClusterError

REFUSALS = (
    FailedJobError, FailedSubmissionError, RuntimeError, subprocess.SubprocessError, OSError,
)  # fmt: skip
FOR_GOOD = re.compile(
    "invalid|unrecognized|ambiguous|not available|not permitted|permission denied", re.IGNORECASE
)
"""What sbatch says where the same would be refused again."""

HELD_BACK = (signal.SIGINT, signal.SIGTERM)


def command_of(submission: Path) -> str:
    """What each element of an array runs.

    `-P` keeps the folder that it was submitted from out of where Python looks for code.
    """
    words = [
        sys.executable,
        "-P",
        "-u",
        "-m",
        "lwspec.engine.executors.allocation",
        str(submission.resolve()),
    ]
    return shlex.join(words)


def text(parameters: Mapping[str, Any], elements: int, submission: Path) -> str:
    """What sbatch is given for an array."""
    return _make_sbatch_string(
        command=command_of(submission),
        folder=submission.resolve(),
        map_count=elements,
        **parameters,
    )


def _complaint(printed: str) -> str:
    """What sbatch says of its own refusal, among what a site and submitit print around it."""
    lines = [line.strip() for line in printed.splitlines()]
    for start in ("sbatch: error:", "sbatch:", "error:"):
        if said := [line for line in lines if line.startswith(start)]:
            return said[0]
    return printed


def send(parameters: Mapping[str, Any], elements: int, submission: Path) -> str:
    """Submit an array and return its id; Ctrl-C waits until SLURM has answered.

    Raises ClusterError with what sbatch says where it refuses, BusyError where it may take it yet.
    """
    conf = {key: os.environ[key] for key in ("SLURM_CONF",) if key in os.environ}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)  # which sbatch inherits
    try:
        executor = SlurmExecutor(submission.resolve())  # raises RuntimeError where srun is missing
        executor.update_parameters(**parameters)
        executor.parameters["map_count"] = elements
        with clean_env():  # of an allocation that this may be called in
            os.environ.update(conf)
            return str(executor._submit_command(command_of(submission)).job_id)
    except REFUSALS as error:
        said = _complaint(str(error))
        kind = ClusterError if FOR_GOOD.search(said) else BusyError
        raise kind(
            f"sbatch refused: {said}",
            remedy="lwspec submit --dry-run shows what it is given",
        ) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
