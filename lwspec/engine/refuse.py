"""What a plan refuses once models are known: settings that no run could honour."""

from __future__ import annotations

from lwspec.engine.controls import CONTROLS, Case
from lwspec.engine.fields import placeholders
from lwspec.engine.loaded import LoadedSpec
from lwspec.engine.locate import Located
from lwspec.engine.resolve import Block
from lwspec.errors import nearest


def refuse(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """Raise SpecError for an arm, at one sweep point, that cannot do what it is asked."""
    for check in (_control, _context, _layer, _prompts, _timing, _distillation):
        check(block, loaded, located)


def _control(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """A control must change something that the arm has."""
    if block.control is None:
        return
    experiment, task = block.experiment, loaded.spec.tasks[block.task]
    case = Case(block.arm, block.resolved.settings, task, block.resolved.train)
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
    """The sender must have the layer that is read."""
    layer, sender = getattr(block.resolved.settings, "layer", 0), block.model("sender")
    shape = located.shapes.get(sender)
    if shape is not None and layer > shape.layers:
        loaded.fail(
            (*_place(block, loaded), block.arm.name),
            f"layer {layer} is asked for; the sender {sender!r} has {shape.layers}",
            to_do=f"set layer to at most {shape.layers}",
        )


def _prompts(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """A prompt of the arm's own may name only columns that the task's prompts name."""
    columns = ("context", *loaded.spec.tasks[block.task].columns)
    for need in block.arm.needs(block.resolved.settings):
        for name in placeholders(need.settings.get("prompt", "")):
            if name not in columns:
                loaded.fail(
                    (*_place(block, loaded), block.arm.name),
                    f"its prompt names the column {{{name}}}, which no prompt of the task "
                    f"{block.task!r} names",
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


def _place(block: Block, loaded: LoadedSpec) -> tuple[str, int]:
    return ("experiment", loaded.spec.experiment.index(block.experiment))
