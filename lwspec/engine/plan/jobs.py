"""The jobs of a plan, each once: what two cells share is made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lwspec.engine.job import Job, Kind, identity, role_of
from lwspec.engine.spec.resolve import Block
from lwspec.engine.spec.spec import Experiment, Spec


class Jobs:
    """Collects jobs by id, and who asks for which outputs of them."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self.by_id: dict[str, Job] = {}
        self.asked: dict[str, dict[str, tuple[str, ...]]] = {e.name: {} for e in spec.experiment}
        """Experiment to the jobs that it needs, each with the outputs that it asks of it."""
        self.to_run: set[str] = set()
        """Those that more than plan-only experiments need."""
        self._labels: dict[tuple[str, str], str] = {}

    def add(
        self,
        block: Block,
        kind: Kind,
        step: str,
        settings: Mapping[str, Any],
        inputs: Mapping[str, str],
        reads: Mapping[str, tuple[str, ...]],
        outputs: tuple[str, ...],
        label: str,
        places: Mapping[str, str],
        other_tasks: Sequence[str] = (),
    ) -> str:
        """Keep a job; where two cells ask for other outputs of it, it owes them all.

        What only plan-only experiments ask for is priced, and not owed.
        """
        job_id = identity(kind, step, settings, inputs)
        label = self._unlike_others(kind, label, job_id, block.experiment)
        gpus = self._spec.resources.gpus if settings.get("device") == "gpu" else 0
        states_gb = self._spec.resources.states_gb
        known = self.by_id.get(job_id)
        asked, wanted_outputs = self.asked[block.experiment.name], outputs
        if known is not None and block.experiment.plan_only:
            outputs = known.outputs
        elif known is not None and job_id in self.to_run:
            outputs = tuple(dict.fromkeys([*known.outputs, *outputs]))
        if not block.experiment.plan_only:
            self.to_run.add(job_id)
        job = Job(
            job_id,
            kind,
            step,
            settings,
            inputs,
            outputs,
            label,
            {role: reads[role] for role in inputs},
            places,
            {
                "task": block.task,
                "sender": block.model("sender"),
                "receiver": block.model("receiver"),
                **{role_of("task", n): task for n, task in enumerate(other_tasks, start=1)},
            },
            gpus,
            self._spec.resources.threads,
            kind == "fit" and block.arm.epochs and not block.arm.own,
            self._spec.resources.compile and kind in ("fit", "evaluate"),
            None if states_gb is None else int(states_gb * 1e9),
            1 if self._spec.budget.gpu == "cpu" else gpus,
        )
        if known is None or known.outputs != outputs:
            self.by_id[job.id] = job
        earlier = asked.get(job.id, ())
        asked[job.id] = tuple(dict.fromkeys([*earlier, *wanted_outputs]))
        return job.id

    def _unlike_others(self, kind: Kind, label: str, job: str, experiment: Experiment) -> str:
        """A label that no other job has: the experiment's name tells two of one label apart."""
        if job in self.by_id:
            return self.by_id[job].label
        if self._labels.setdefault((kind, label), job) != job:
            label = f"{label}, {experiment.name}"
        return label
