"""From a job's kind and step to the code that does it."""

from __future__ import annotations

import os

import torch
from threadpoolctl import threadpool_limits

from lwspec.kernels.attempt import Attempt
from lwspec.kernels.everything import import_everything
from lwspec.kernels.models.load import device_of
from lwspec.kernels.training.receiver_pass import Steps


def work(attempt: Attempt) -> Steps:
    """Do what the job says, asking for the receiver's passes that can be shared.

    Every output that the job owes is offered before this ends.
    """
    job = attempt.job
    import_everything()
    set_up_torch(job.threads)
    if job.kind == "fit":
        from lwspec.kernels.training.fit import fit

        yield from fit(attempt, device_of(attempt))
    elif job.kind == "evaluate":
        from lwspec.kernels.measuring.evaluate import evaluate

        evaluate(attempt, device_of(attempt))
    elif job.kind == "latency":
        from lwspec.kernels.measuring.latency import measure_latency

        measure_latency(attempt, device_of(attempt))
    elif job.step == "data":
        from lwspec.kernels.data.rows import prepare_rows

        prepare_rows(attempt)
    elif job.step == "toy":
        from lwspec.kernels.toy.job import prepare_toy

        prepare_toy(attempt)
    elif job.step == "states":
        from lwspec.kernels.sender import prepare_states

        prepare_states(attempt, device_of(attempt))
    elif job.step == "pooled":
        from lwspec.kernels.sender import prepare_pooled

        prepare_pooled(attempt, device_of(attempt))
    else:
        assert job.step == "text", job.step
        from lwspec.kernels.sender import prepare_text

        prepare_text(attempt, device_of(attempt))


def set_up_torch(threads: int) -> None:
    """The same numbers each time, on so many threads."""
    # cuBLAS is deterministic only with a workspace of fixed size, chosen before its first use.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_num_threads(threads)
    threadpool_limits(threads)
