"""LLMLingua-2: the text compressed by a small classifier of its own (Pan et al. 2024).

The optional package `llmlingua` does it (`pip install lwspec[llmlingua]`); on first use it fetches
its model and a tokenizer file. Without network, `perplexity_pruning` is the arm of this kind. The
first LLMLingua is not offered: release 0.2.2 of the package does not run with transformers 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

from pydantic import Field

from lwspec.engine.arm import ArmDeclaration
from lwspec.engine.fields import Positive
from lwspec.errors import ModelError
from lwspec.kernels.arm import Arm, Batch, Setup
from lwspec.kernels.methods.capped import Capped
from lwspec.kernels.prompts import present_text


class Settings(Capped):
    """What a spec may set in `llmlingua = { ... }`."""

    model: Annotated[str, Field(pattern=r"^[\w-]+/[\w.-]+$")] = (
        "microsoft/llmlingua-2-xlm-roberta-large-meetingbank"
    )
    """The compressor, by hub id."""
    tokens: Positive = 8
    """The length that it is asked to compress to, in the tokens that the package counts."""


@cache
def compressor(model: str, device: str) -> Any:
    """The package's compressor. Raises ModelError where package, model or network is missing."""
    try:
        from llmlingua import PromptCompressor
    except ImportError:
        raise ModelError(
            "the package llmlingua is not installed",
            remedy="pip install lwspec[llmlingua], or use perplexity_pruning, which needs neither "
            "a package nor a network",
        ) from None
    try:
        allowed = {"trust_remote_code": False, "use_safetensors": True}
        return PromptCompressor(model, device, allowed, use_llmlingua2=True)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(
            f"llmlingua cannot fetch what it needs: {first}",
            where=model,
            remedy="run it where the network reaches its model and tokenizer file, or use "
            "perplexity_pruning, which needs no network",
        ) from None


def message(setup: Setup, batch: Batch) -> Sequence[str]:
    """Each context, compressed on its own."""
    assert setup.reader is not None
    settings: Settings = setup.settings
    made = compressor(settings.model, str(setup.reader.device))
    return settings.cut(
        [
            str(made.compress_prompt([text], target_token=settings.tokens)["compressed_prompt"])
            for text in batch.contexts
        ]
    )


ARM = Arm(
    ArmDeclaration(
        name="llmlingua",
        version=1,
        regime="private",
        settings=Settings,
        reads=("receiver_prompt", "answer", "max_prompt_tokens"),
        models=("receiver",),
        tokens="tokens",
    ),
    message=message,
    present=present_text,
)
