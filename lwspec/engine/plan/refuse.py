"""What a plan refuses once models are known: settings that no run could honour."""

from __future__ import annotations

import itertools
from typing import NoReturn

from lwspec.engine.arm import Role
from lwspec.engine.fields import placeholders
from lwspec.engine.plan.locate import Located
from lwspec.engine.shapes import Shape
from lwspec.engine.spec.controls import CONTROLS, Case
from lwspec.engine.spec.loaded import LoadedSpec
from lwspec.engine.spec.resolve import Block, Point
from lwspec.errors import nearest

ROLES: tuple[Role, ...] = ("sender", "receiver")

LAYERS: tuple[tuple[str, Role, int], ...] = (("layer", "sender", 0), ("into", "receiver", 1))
"""Settings that name a layer, whose it is, and how many of a model's last they cannot name."""


def refuse(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """Raise SpecError for an arm, at one sweep point, that cannot do what it is asked."""
    checks = (
        _control, _context, _layer, _pair, _bytes, _prompts, _timing, _distillation, _train_on,
        _samples, _splits,
    )  # fmt: skip
    for check in checks:
        check(block, loaded, located)


def refuse_twice(block: Block, earlier: Point, loaded: LoadedSpec) -> NoReturn:
    """Raise SpecError for a point whose jobs are those of an earlier one."""
    place, name = _place(block, loaded), block.arm.name
    if block.control is not None:
        loaded.fail(
            (*place, "controls", block.experiment.controls.index(block.control)),
            f"{block.control} changes nothing for {name} on {block.task}: its jobs are those of "
            f"{dict(earlier) or 'the arm as it is'}",
            to_do=f"give {name} an experiment without this control",
        )
    loaded.fail(
        (*place, "sweep"),
        f"the points {dict(earlier)} and {dict(block.point)} give the same jobs for {name} on "
        f"{block.task}",
        to_do="sweep a setting that changes this arm",
    )


def _control(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """A control must change something that the arm has."""
    if block.control is None:
        return
    experiment, task = block.experiment, loaded.spec.tasks[block.task]
    names = {role: block.model(role) for role in ROLES}
    shapes = {role: located.shapes[n] for role, n in names.items() if n in located.shapes}
    case = Case(block.arm, block.resolved.settings, task, block.resolved.train, shapes)
    why = CONTROLS[block.control].unfit(case)
    if why is not None:
        loaded.fail(
            (*_place(block, loaded), "controls", experiment.controls.index(block.control)),
            f"{block.control} makes no sense for {block.arm.name} on {block.task}: {why}",
            to_do=f"leave {block.control} out, or give {block.arm.name} on {block.task} an "
            "experiment of its own",
        )


def _context(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """A message must fit into the receiver's context."""
    tokens = block.arm.message_tokens(block.resolved.settings)
    receiver = block.experiment.receiver
    shape = located.shapes.get(receiver)
    if shape is not None and shape.context is not None and tokens >= shape.context:
        loaded.fail(
            (*_place(block, loaded), block.arm.name),
            f"{block.arm.name} hands over {tokens} tokens; the context of the receiver "
            f"{receiver!r} is {shape.context}",
            to_do=f"hand over fewer than {shape.context}",
        )


def _layer(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """The sender must have the layer that is read, the receiver a block after the one changed."""
    for key, role, beyond in LAYERS:
        layer, model = getattr(block.resolved.settings, key, 0), block.model(role)
        shape = located.shapes.get(model)
        if shape is not None and layer > shape.layers - beyond:
            loaded.fail(
                (*_place(block, loaded), block.arm.name),
                f"{key} {layer} is asked for; the {role} {model!r} has {shape.layers} layers",
                to_do=f"set {key} to at most {shape.layers - beyond}",
            )


def _pair(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """What one model keeps inside means something to itself, or to one of its own shape, alone."""
    sender, receiver = block.model("sender"), block.model("receiver")
    pair = block.arm.pair
    if pair == "any" or located.models[sender] == located.models[receiver]:
        return
    shapes = located.shapes.get(sender), located.shapes.get(receiver)
    if pair == "same_shape" and shapes[0] is not None and shapes[0] == shapes[1]:
        return
    wanted = "one model" if pair == "same_model" else "two models of one shape"
    loaded.fail(
        (*_place(block, loaded), "arms"),
        f"{block.arm.name} needs {wanted} as sender and receiver; {sender!r} and {receiver!r} "
        "are not",
        to_do=f"give it an experiment of its own with sender and receiver {receiver!r}",
    )


def _bytes(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """A message must keep to the bytes that the experiment grants it."""
    granted, arm = block.experiment.evaluate.max_bytes, block.arm
    if granted is None or arm.regime == "reference" or not arm.models:
        return
    most = message_bytes(block, loaded, located)
    if most is None:
        loaded.fail(
            (*_place(block, loaded), arm.name),
            f"a message of {arm.name} is of no known length; evaluate.max_bytes is {granted}",
            to_do="state the sizes of models that are not known, by a folder with their config"
            if arm.soft
            else f"set {arm.name}.max_bytes to at most {granted}, where it has this setting, or "
            "give it an experiment of its own",
        )
    elif most > granted:
        loaded.fail(
            (*_place(block, loaded), arm.name),
            f"a message of {arm.name} takes up to {most} bytes; evaluate.max_bytes is {granted}",
            to_do="send fewer tokens, or at another evaluate.precision",
        )


def message_bytes(block: Block, loaded: LoadedSpec, located: Located) -> int | None:
    """The most bytes of an arm's message; None where nothing is known of them."""
    arm, settings = block.arm, block.resolved.settings
    if not arm.soft:
        capped: int | None = getattr(settings, "max_bytes", None)
        return capped if arm.fixed_bytes is None else arm.fixed_bytes
    shapes: dict[Role, Shape] = {}
    for role in ROLES:
        shape = located.shapes.get(block.model(role))
        if shape is None:
            return None
        shapes[role] = shape
    if arm.tokens is None and arm.vectors is None:
        return None
    tokens = loaded.spec.tasks[block.task].max_prompt_tokens + 1  # with that of the beginning
    vectors, width = arm.message_tokens(settings), shapes["receiver"].width
    if arm.vectors is not None:
        vectors, width = arm.vectors(settings, shapes, tokens)
    return serialised_bytes(vectors, width, block.experiment.evaluate.precision)


def serialised_bytes(vectors: int, width: int, precision: str) -> int:
    """Bytes of so many vectors; of whole numbers each vector has a scale of two bytes."""
    bits = {"float32": 32, "bfloat16": 16, "int8": 8, "int4": 4}[precision]
    scales = 2 * vectors if precision.startswith("int") else 0
    return -(-vectors * width * bits // 8) + scales


def _prompts(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """A prompt of the arm's own may name only columns that the task's prompts name."""
    needs = block.arm.needs(block.resolved.settings)
    names = [name for n in needs for name in placeholders(n.settings.get("prompt", ""))]
    for task in (block.task, *block.trained_on):
        columns = ("context", *loaded.spec.tasks[task].columns)
        for name in names:
            if name not in columns:
                loaded.fail(
                    (*_place(block, loaded), block.arm.name),
                    f"its prompt names the column {{{name}}}, which no prompt of the task "
                    f"{task!r} names",
                    near=nearest(name, columns),
                )


def _timing(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """What is solved in one step has nothing to time before it is."""
    latency, arm = block.resolved.latency, block.arm
    if latency is not None and not latency.trained and arm.trained and not arm.epochs:
        loaded.fail(
            (*_place(block, loaded), "latency"),
            f"{arm.name} is solved in one step: untrained there is nothing to time",
            to_do="set latency.trained = true, or drop the arm",
        )


def _distillation(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """A receiver that reads the text has nothing to learn from itself."""
    arm = block.arm
    if block.resolved.train.distillation and arm.epochs and arm.regime == "reference":
        loaded.fail(
            (*_place(block, loaded), "train"),
            f"{arm.name} is itself a receiver that may read the text: nothing to distil",
            to_do="give it an experiment of its own without train.distillation",
        )


def _train_on(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """What is solved in one step reads one task, and for its labels answers no other's.

    Epochs are judged by one metric.
    """
    at, listed = (*_place(block, loaded), "train_on"), ", ".join(block.trained_on)
    solved = block.arm.trained and not block.arm.epochs
    own = {"to_do": f"give {block.arm.name} an experiment of its own without train_on"}
    if solved and len(block.trained_on) > 1:
        loaded.fail(
            at, f"{block.arm.name} is solved in one step over one task: not {listed}", **own
        )
    if solved and block.arm.learns_answers and block.trained_on != (block.task,):
        loaded.fail(
            at,
            f"{block.arm.name} is solved in one step for one task's labels: a fit over {listed} "
            f"cannot be measured on {block.task}",
            **own,
        )
    kinds = {loaded.spec.tasks[task].kind for task in block.trained_on}
    if len(kinds) > 1:
        loaded.fail(
            at,
            f"the fit is over tasks of both kinds ({listed}): an epoch is judged by one metric, "
            "accuracy of labels or ROUGE-L of free text",
            to_do="train on tasks of one kind; it may be measured on any",
        )


def _samples(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """As many training rows as are asked for must be there, where their number is known."""
    asked = block.resolved.train.samples
    if not block.arm.trained or not isinstance(asked, int):
        return
    for task in block.trained_on:
        most = located.train_rows[task]
        if most is not None and asked > most:
            loaded.fail(
                (*_place(block, loaded), "train"),
                f"{asked} training samples are asked for; {task} has at most {most}",
                to_do=f"set samples = {{ max = {asked} }} to take what there is",
            )


def _splits(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """Tasks of one data set are split alike, so that none is trained on what another tests."""
    tasks = loaded.spec.tasks
    of_one_fit = dict.fromkeys((block.task, *block.trained_on))
    for one, other in itertools.combinations(of_one_fit, 2):
        if located.data[one] != located.data[other]:
            continue
        for key in ("splits", "context", "max_context_chars", "sample_seed"):
            if getattr(tasks[one], key) != getattr(tasks[other], key):
                loaded.fail(
                    (*_place(block, loaded), "train_on"),
                    f"{one} and {other} take rows of the same data, and their {key} differ: test "
                    f"rows of one could be training rows of the other",
                    to_do=f"give both tasks the same {key}",
                )


def _place(block: Block, loaded: LoadedSpec) -> tuple[str, int]:
    return ("experiment", loaded.spec.experiment.index(block.experiment))
