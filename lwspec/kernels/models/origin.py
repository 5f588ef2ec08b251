"""What of a model's repository or folder may be read, and whether its code may run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils.peft_utils import find_adapter_config_file

from lwspec.errors import ModelError


def source(path: str | Path, revision: str | None, remote_code: bool) -> dict[str, Any]:
    """What every call that reads a model's files is given.

    Raises ModelError where it is an adapter of another model, or its code may run and is not its
    own: then neither the revision nor the fingerprint of its folder would say what was read.
    """
    if find_adapter_config_file(str(path), revision=revision) is not None:
        raise ModelError(
            "it is an adapter of another model, which would be read beside it",
            where=str(path),
            remedy="merge it into that model, and name what was saved then",
        )
    wanted: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": remote_code}
    if remote_code:
        wanted["code_revision"] = wanted["revision"]
        for named in _code(path, wanted["revision"]):
            if "--" in named:
                raise ModelError(
                    f"the model takes its code from elsewhere: {named}",
                    where=str(path),
                    remedy="copy that code into a folder of the model and take away what stands "
                    "before -- in its config.json",
                )
    return wanted


def _code(path: str | Path, revision: str) -> Iterator[str]:
    """The classes that configuration and tokenizer name, each as [repository--]module.class."""
    config, _ = PretrainedConfig.get_config_dict(path, revision=revision)
    for described in (config, get_tokenizer_config(path, revision=revision)):
        found = described.get("auto_map") or {}
        yield from _texts(found.values() if isinstance(found, Mapping) else found)


def _texts(values: Any) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, list | tuple):
            yield from _texts(value)
