"""Models and checkpoints: no pickle is loaded, and code runs only where the spec says so."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Project
from safetensors.torch import load_file

from lwspec.engine.job import Job
from lwspec.errors import CheckpointError, ModelError
from lwspec.kernels.models.origin import source
from lwspec.kernels.models.reader import Reader
from lwspec.kernels.training.checkpoint import load_weights

CPU = torch.device("cpu")

CODE = """
from pathlib import Path
Path({mark!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own"
class Own(LlamaForCausalLM):
    config_class = OwnConfig
"""


class Bomb:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """A file that exists once code was run that should not be."""
    return tmp_path / "mark"


@pytest.fixture
def folder(world: Path, tmp_path: Path) -> Path:
    """A copy of a model, to be damaged."""
    made = tmp_path / "model"
    shutil.copytree(world / "models/llama", made)
    return made


def with_code(folder: Path, mark: Path, home: str = "") -> None:
    """Give a model code of its own, which makes a file when it is imported."""
    (folder / "own.py").write_text(CODE.format(mark=str(mark)))
    config = json.loads((folder / "config.json").read_text())
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}
    config |= {"model_type": "own", "architectures": ["Own"]}
    config["auto_map"] = {key: home + value for key, value in classes.items()}
    (folder / "config.json").write_text(json.dumps(config))


def test_weights_that_are_a_pickle_are_never_loaded(folder: Path, mark: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(ModelError, match="safetensors"):
        Reader.load(folder, "float32", None, CPU)
    assert not mark.exists()


def test_an_honest_pickle_is_refused_with_how_to_convert_it(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="save_pretrained"):
        Reader.load(folder, "float32", None, CPU)


def test_a_plan_refuses_weights_that_are_a_pickle(project: Project, mark: Path) -> None:
    models = project.folder / "own"
    shutil.copytree(project.folder / "models/llama", models)
    (models / "model.safetensors").rename(models / "pytorch_model.bin")
    project.change('path = "models/llama"', 'path = "own"')
    done = project.run("plan", "small.toml", status=2)
    assert "small.toml:14:1: the weights are a pickle" in done.stderr
    assert "save_pretrained" in done.stderr


def test_a_checkpoint_that_is_a_pickle_is_refused(tmp_path: Path, mark: Path) -> None:
    path = tmp_path / "module.safetensors"
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(CheckpointError):
        load_weights(path)
    assert not mark.exists()


def test_code_of_a_model_runs_only_where_it_may(
    folder: Path, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "hf"))
    with_code(folder, mark)
    with pytest.raises(ModelError, match="remote_code = true"):
        Reader.load(folder, "float32", None, CPU)
    with pytest.raises(ModelError):
        Reader.load(folder, "float32", None, CPU, random_weights=1)
    assert not mark.exists()
    made = Reader.load(folder, "float32", None, CPU, remote_code=True)
    assert type(made.model).__name__ == "Own" and mark.exists()


def test_code_from_another_repository_never_runs(folder: Path, mark: Path) -> None:
    with_code(folder, mark, home="org/other--")
    with pytest.raises(ModelError, match="takes its code from elsewhere: org/other--own.Own"):
        Reader.load(folder, "float32", None, CPU, remote_code=True)
    assert not mark.exists()


def test_a_tokenizers_code_is_looked_at_too(folder: Path, mark: Path) -> None:
    path = folder / "tokenizer_config.json"
    described = json.loads(path.read_text())
    described["auto_map"] = {"AutoTokenizer": [None, "org/other--own.Tokenizer"]}
    path.write_text(json.dumps(described))
    with pytest.raises(ModelError, match="takes its code from elsewhere"):
        Reader.load(folder, "float32", None, CPU, remote_code=True)


@pytest.mark.parametrize("revision", ["", 'revision = "main"\n', 'revision = "0123abc"\n'])
def test_code_from_the_hub_needs_a_whole_commit(project: Project, revision: str) -> None:
    project.change('path = "models/llama"', f'path = "org/name"\n{revision}remote_code = true')
    done = project.run("plan", "small.toml", status=2)
    assert "the code of org/name may run, and nothing says which" in done.stderr


def test_what_may_run_is_part_of_a_job_and_shown_by_the_plan(project: Project) -> None:
    before = json.loads(project.run("plan", "small.toml", "--json").stdout)
    commit = "0123456789" * 4
    project.change(
        'path = "models/llama"', f'path = "org/name"\nrevision = "{commit}"\nremote_code = true'
    )
    shown = project.run("plan", "small.toml", status=3).stdout
    assert "runs code of models     llama (org/name at 012345678901)" in shown
    after = json.loads(project.run("plan", "small.toml", "--json", status=3).stdout)
    assert (before["remote_code"], after["remote_code"]) == ([], ["llama"])


def test_a_job_names_the_models_whose_code_may_run() -> None:
    own = {"hub": "org/name", "revision": "0" * 40, "remote_code": True}
    common = {"inputs": {}, "outputs": (), "label": "", "reads": {}}
    settings = {"models": {"sender": own, "receiver": {"weights": "ab"}}}
    fit = Job("fit-1", "fit", "bridge", settings, **common)
    states = Job("prepare-1", "prepare", "states", {"model": {"weights": "ab"}}, **common)
    assert fit.remote_code == {"sender": "0" * 40}
    assert states.remote_code == {}


def test_an_adapter_of_another_model_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "org/other"}')
    with pytest.raises(ModelError, match="adapter of another model"):
        source(tmp_path, None, False)
