"""Where a spec's models and data lie and what they hold: planning's only look at the disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lwspec.engine.plan.fingerprint import Fingerprints
from lwspec.engine.shapes import Shape, shape_of
from lwspec.engine.spec.loaded import LoadedSpec
from lwspec.engine.spec.spec import Model
from lwspec.engine.spec.task import LOCAL_LOADERS, Data, Splits
from lwspec.errors import CONVERT, nearest

TOY_VERSION = 1
"""Raised when the toys change: what was made from the old ones is then made anew."""

TOY_ROWS = {"train": 2000, "test": 500}

HUB_ROWS: Mapping[tuple[str, str | None], Mapping[str, int]] = {
    ("abisee/cnn_dailymail", "3.0.0"): {"train": 287_113, "validation": 13_368, "test": 11_490},
    ("allenai/ai2_arc", "ARC-Challenge"): {"train": 1_119, "validation": 299, "test": 1_172},
    ("allenai/ai2_arc", "ARC-Easy"): {"train": 2_251, "validation": 570, "test": 2_376},
    ("CogComp/trec", None): {"train": 5_452, "test": 500},
    ("EdinburghNLP/xsum", None): {"train": 204_045, "validation": 11_332, "test": 11_334},
    ("fancyzhx/ag_news", None): {"train": 120_000, "test": 7_600},
    ("google/boolq", None): {"train": 9_427, "validation": 3_270},
    ("hotpotqa/hotpot_qa", "distractor"): {"train": 90_447, "validation": 7_405},
    ("openai/gsm8k", "main"): {"train": 7_473, "test": 1_319},
    ("rajpurkar/squad", None): {"train": 87_599, "validation": 10_570},
    ("stanfordnlp/sst2", None): {"train": 67_349, "validation": 872, "test": 1_821},
}
"""Rows of hub sets by id and name, as published: so that plans need no network."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class Located:
    """Where models and data lie and what they hold, looked up before anything is expanded."""

    models: Mapping[str, Mapping[str, Any]]
    """Model name to what identifies its weights."""
    data: Mapping[str, Mapping[str, Any]]
    """Task name to what identifies its rows."""
    model_paths: Mapping[str, str]
    data_paths: Mapping[str, Mapping[str, str]]
    train_rows: Mapping[str, int | None]
    """Task name to how many training rows there are at most, where that is known."""
    test_rows: Mapping[str, int | None]
    shapes: Mapping[str, Shape]
    """Model name to its size, where that is known."""


def locate(loaded: LoadedSpec, fingerprints: Fingerprints) -> Located:
    """Look up every model and data set of a spec, without opening weights or rows.

    Local files are identified by the bytes they hold, hub ids by id and revision.
    Raises SpecError for a path that is not there.
    """
    models, model_paths = {}, {}
    for name, model in loaded.spec.models.items():
        models[name], model_paths[name] = _model(loaded, name, model, fingerprints)
    data, data_paths, train_rows, test_rows = {}, {}, {}, {}
    for name, task in loaded.spec.tasks.items():
        data[name], data_paths[name], sizes = _data(loaded, name, task.data, fingerprints)
        sources = {"train": task.splits.train, "validation": task.splits.validation}
        for role, split in {**sources, "test": task.splits.test}.items():
            if sizes and split.source not in sizes:
                loaded.fail(
                    ("tasks", name, "splits", role),
                    f"the data of task {name!r} have no split {split.source!r}",
                    near=nearest(split.source, sizes),
                    to_do=f"choose among: {', '.join(sorted(sizes))}",
                )
        train_rows[name] = _left_to_train(task.splits, sizes)
        test_rows[name] = task.splits.test.rows or sizes.get(task.splits.test.source)
    found = {name: shape_of(model, model_paths[name]) for name, model in models.items()}
    shapes = {name: shape for name, shape in found.items() if shape is not None}
    return Located(models, data, model_paths, data_paths, train_rows, test_rows, shapes)


def _left_to_train(splits: Splits, sizes: Mapping[str, int | None]) -> int | None:
    """The most rows that train can have, beside what is carved out of its source."""
    train, held_out = splits.train, (splits.validation, splits.test)
    whole = sizes.get(train.source)
    if whole is None:
        return train.rows
    left = whole - sum(split.rows or 0 for split in held_out if split.source == train.source)
    return max(0, left if train.rows is None else min(train.rows, left))


def _model(
    loaded: LoadedSpec, name: str, model: Model, fingerprints: Fingerprints
) -> tuple[Mapping[str, Any], str]:
    if model.toy is not None:
        return {"toy": model.toy, "version": TOY_VERSION, "dtype": model.dtype}, ""
    assert model.path is not None
    code = {"remote_code": True} if model.remote_code else {}
    folder = loaded.source.path.parent / model.path
    if (folder / "config.json").exists():
        if model.revision is not None:
            loaded.fail(("models", name, "revision"), "a local model has no revision")
        _check_weights(loaded, name, folder)
        weights = fingerprints.of(folder).sha256
        return {"weights": weights, "dtype": model.dtype, **code}, str(folder.resolve())
    local = folder.parent.is_dir() and folder.parent != loaded.source.path.parent
    if not _HUB_ID.fullmatch(model.path) or folder.exists() or local:
        siblings = [path.name for path in folder.parent.glob("*/")]
        close = nearest(folder.name, siblings)
        loaded.fail(
            ("models", name, "path"),
            f"there is no model folder {model.path!r} (with a config.json) beside the spec",
            near=close and model.path.removesuffix(folder.name) + close,
            to_do="give a folder relative to the spec's own, or a hub id such as org/name",
        )
    revision = model.revision or "main"
    if model.remote_code and not _COMMIT.fullmatch(revision):
        loaded.fail(
            ("models", name, "remote_code"),
            f"the code of {model.path} may run, and nothing says which",
            to_do="set its revision to the whole hash of a commit whose code you have read",
        )
    return {"hub": model.path, "revision": revision, "dtype": model.dtype, **code}, model.path


def _check_weights(loaded: LoadedSpec, name: str, folder: Path) -> None:
    """Fail where the weights are there as a pickle alone."""
    if any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
        loaded.fail(
            ("models", name, "path"),
            "the weights are a pickle, which is never loaded: they must be safetensors",
            to_do=CONVERT,
        )


def _data(
    loaded: LoadedSpec, task: str, data: Data, fingerprints: Fingerprints
) -> tuple[Mapping[str, Any], Mapping[str, str], dict[str, int | None]]:
    """What identifies the rows, where they lie, and how many each source split has at most."""
    if data.toy is not None:
        return {"toy": data.toy, "version": TOY_VERSION}, {}, dict(TOY_ROWS)
    assert data.path is not None
    at = ("tasks", task, "data")
    adapter = {} if data.adapter is None else {"adapter": data.adapter}
    if data.path not in LOCAL_LOADERS:
        if not _HUB_ID.fullmatch(data.path) or "/" not in data.path:
            loaded.fail(
                (*at, "path"),
                f"{data.path!r} is neither a hub id (org/name) nor one of "
                f"{', '.join(LOCAL_LOADERS)}",
                to_do='for local files: { path = "json", data_files = { train = "train.jsonl" } }',
            )
        hub = {"hub": data.path, "name": data.name, "revision": data.revision}
        known: dict[str, int | None] = {**HUB_ROWS.get((data.path, data.name), {})}
        return {**hub, **adapter}, {"hub": data.path}, known
    assert data.data_files is not None
    hashes: dict[str, str] = {}
    places: dict[str, str] = {}
    sizes: dict[str, int | None] = {}
    for split, name in data.data_files.items():
        file = loaded.source.path.parent / name
        if not file.is_file():
            siblings = [path.name for path in file.parent.glob("*") if path.is_file()]
            close = nearest(file.name, siblings)
            loaded.fail(
                (*at, "data_files", split),
                f"there is no file {name!r} beside the spec",
                near=close and name.removesuffix(file.name) + close,
            )
        fingerprint = fingerprints.of(file)
        if fingerprint.sha256 in hashes.values():
            loaded.fail(
                (*at, "data_files", split),
                f"the file of split {split!r} has the bytes of another split's: they overlap",
            )
        hashes[split], places[split] = fingerprint.sha256, str(file.resolve())
        sizes[split] = _most_rows(file, fingerprint.lines)
    return {"loader": data.path, "files": hashes, **adapter}, places, sizes


def _most_rows(file: Path, lines: int) -> int | None:
    """The most rows that a file of so many ends of lines can hold, where a row takes a line.

    The last line may have no end; a CSV file's first names its columns. One that ends its lines
    otherwise has none of them.
    """
    if file.suffix == ".jsonl":
        return lines + 1
    return lines or None if file.suffix == ".csv" else None
