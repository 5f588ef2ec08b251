"""What a plan refuses once models are known: settings that no run could honour."""

from __future__ import annotations

from lwspec.engine.arm import Role
from lwspec.engine.fields import placeholders
from lwspec.engine.loaded import LoadedSpec
from lwspec.engine.locate import Located
from lwspec.engine.resolve import Block
from lwspec.engine.shapes import Shape
from lwspec.errors import nearest

ROLES: tuple[Role, ...] = ("sender", "receiver")


def refuse(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """Raise SpecError for an arm, at one sweep point, that cannot do what it is asked."""
    for check in (_context, _layer, _pair, _bytes, _prompts, _timing, _distillation):
        check(block, loaded, located)


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
    layer, sender = getattr(block.resolved.settings, "layer", 0), block.experiment.sender
    shape = located.shapes.get(sender)
    if shape is not None and layer > shape.layers:
        loaded.fail(
            (*_place(block, loaded), block.arm.name),
            f"layer {layer} is asked for; the sender {sender!r} has {shape.layers}",
            to_do=f"set layer to at most {shape.layers}",
        )


def _pair(block: Block, loaded: LoadedSpec, located: Located) -> None:
    """What one model keeps inside means something to itself, or to one of its own shape, alone."""
    sender, receiver = block.experiment.sender, block.experiment.receiver
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
            f"a message of {arm.name} may be of any length; evaluate.max_bytes is {granted}",
            to_do=f"set {arm.name}.max_bytes to at most {granted}, where it has this setting, or "
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
        return capped
    shapes: dict[Role, Shape] = {}
    for role in ROLES:
        shape = located.shapes.get(getattr(block.experiment, role))
        if shape is None:
            return None
        shapes[role] = shape
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
