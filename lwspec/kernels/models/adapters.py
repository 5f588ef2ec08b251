"""Low-rank adapters in a model's linear layers (LoRA, Hu et al. 2021), by the peft library."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from lwspec.errors import ModelError
from lwspec.kernels.models.reader import Reader


def add_adapters(reader: Reader, arm: str, settings: Any) -> nn.ParameterDict:
    """Put adapters into a model and return their weights in float32, which alone are trained.

    The arm's settings give `rank`, `alpha` and `targets`. Untrained, adapters change nothing.
    Raises ModelError where no layer has a target's name.
    """
    reader.frozen = False
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, target_modules=[*settings.targets]
    )
    try:
        inject_adapter_in_model(config, reader.model)
    except ValueError as error:
        raise ModelError(
            f"no adapter fits {type(reader.model).__name__}: {error}",
            remedy=f"set {arm}.targets to names of its linear layers",
        ) from None
    adapters = {
        name.replace(".", "/"): parameter
        for name, parameter in reader.model.named_parameters()
        if "lora_" in name
    }
    for parameter in adapters.values():
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    return nn.ParameterDict(adapters)
