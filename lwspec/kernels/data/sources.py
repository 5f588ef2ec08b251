"""The raw rows of a task's data: a hub set, local files, or a built-in toy task."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lwspec.engine.runs.checksum import sha256_of
from lwspec.errors import DataError, NetworkError
from lwspec.kernels.attempt import Attempt
from lwspec.kernels.models.network import unreachable


def read_sources(attempt: Attempt) -> dict[str, list[dict[str, Any]]]:
    """The rows of each source split that the task uses. Raises DataError or NetworkError."""
    settings = attempt.job.settings
    data = settings["data"]
    wanted = {split["source"] for split in settings["splits"].values()}
    if "toy" in data:
        from lwspec.kernels.toy.text import rows

        return {name: rows(data["toy"], name) for name in sorted(wanted)}
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError

    disable_progress_bars()  # a log is no terminal
    scratch = attempt.path / "scratch"
    try:
        if "loader" in data:
            files = {name: attempt.job.places[name] for name in sorted(wanted)}
            for name, file in files.items():
                if sha256_of(Path(file)) != data["files"][name]:
                    raise DataError(
                        "the data have changed since they were planned",
                        where=file,
                        remedy="restore them, or plan and submit again: other data make other jobs",
                    )
            loaded = load_dataset(data["loader"], data_files=files, cache_dir=str(scratch))
        else:
            if Path(data["hub"]).exists():
                raise DataError(
                    f"{data['hub']} is a hub set, and a folder here would be read in its place",
                    where=str(Path(data["hub"]).resolve()),
                    remedy="move the folder, or name its files in the spec",
                )
            loaded = load_dataset(data["hub"], data["name"], revision=data["revision"])
            if commit := commit_of(loaded):
                attempt.commits[data["hub"]] = commit
        for name in sorted(wanted):
            check_order(settings, loaded[name].features)
        return {name: loaded[name].to_list() for name in sorted(wanted)}
    except (DatasetsError, OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno == 28:
            raise
        first = str(error.__cause__ or error).strip().splitlines()[0]
        kind = NetworkError if unreachable(error) else DataError
        raise kind(
            f"cannot load the data: {first}",
            where=", ".join(attempt.job.places.values()),
            remedy="check path and split names; for a hub set, the network and `hf auth login`",
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_order(settings: Mapping[str, Any], features: Mapping[str, Any]) -> None:
    """Hold the order of a task's labels against the names that the data give to their indices.

    Raises DataError where a label of the task is the data's name of another index.
    """
    theirs: Sequence[str] = getattr(features.get(settings.get("label", "")), "names", ())
    indices = {name.lower(): index for index, name in enumerate(theirs)}
    for index, label in enumerate(settings["labels"] if theirs else ()):
        place = indices.get(label.lower(), index)
        if place != index:
            raise DataError(
                f"the label {label!r} is number {index} of the task and number {place} of the data",
                remedy=f"give `labels` in the order of the data: {', '.join(theirs)}",
            )


def commit_of(loaded: Mapping[str, Any]) -> str | None:
    """The commit of the hub's repository that the files of a data set were read at, if they say."""
    urls = (url for split in loaded.values() for url in split.info.download_checksums or ())
    found = (re.search(r"@([0-9a-f]{40})/", url) for url in urls)
    return next((match[1] for match in found if match), None)
