"""An arm that counts: fitted over epochs and measured by a work that imports no torch."""

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.fields import Frozen, Positive
from lwspec.kernels.arm import Arm


class Settings(Frozen):
    """What a spec may set in `counting = { ... }`."""

    upto: Positive = 4


ARM = Arm(
    ArmDeclaration(
        name="counting",
        version=1,
        regime="private",
        settings=Settings,
        trained=True,
        epochs=True,
        seeded=True,
    )
)
