"""A wrong spec gets one screen that says where, and nothing is written."""

from __future__ import annotations

import json

import pytest
from conftest import Project

from lwspec.engine.spec.load import load
from lwspec.errors import SpecError
from lwspec.kernels.arms import declarations

WRONG = {
    "misspelt key": ("epochs = 2", "epoch = 2", "epoch = 2", "unknown key 'epoch'", "epochs"),
    "misspelt arm table": ("bridge = {", "brigde = {", "brigde", "unknown key 'brigde'", "bridge"),
    "misspelt arm setting": (
        "latents = 4",
        "latent = 4",
        "latent = 4",
        "unknown key 'latent'",
        "latents",
    ),
    "wrong type": ("epochs = 2", 'epochs = "2"', 'epochs = "2"', "valid integer", None),
    "a float for an integer": ("epochs = 2", "epochs = 2.0", "epochs = 2.0", "valid integer", None),
    "unknown model": ('sender = "llama"', 'sender = "lama"', '"lama"', "no model 'lama'", "llama"),
    "unknown arm": ('arms = ["bridge"]', 'arms = ["brige"]', '"brige"', "no arm 'brige'", "bridge"),
    "unknown task": (
        'tasks = ["colour"]',
        'tasks = ["color"]',
        'tasks = ["color"]',
        "no task 'color'",
        "colour",
    ),
    "negative seed": (
        "seeds = [1, 2]",
        "seeds = [1, -2]",
        "-2",
        "greater than or equal to 0",
        None,
    ),
    "repeated seed": ("seeds = [1, 2]", "seeds = [1, 1]", "[1, 1]", "1 is given twice", None),
    "climbing name": ('name = "main"\narms', 'name = "../main"\narms', '"../main"', "no '/'", None),
    "prompt without context": (
        'sender_prompt = "Text: {context}',
        'sender_prompt = "Text: {text}',
        '"Text: {text}',
        "holds no {context}",
        None,
    ),
    "query with context": (
        'query = "Colour:"',
        'query = "{context}"',
        "query =",
        "holds {context}",
        None,
    ),
    "overlapping splits": (
        'validation = { from = "train", rows = 12 }',
        'validation = "train"',
        "splits =",
        "overlap",
        None,
    ),
    "split that the data lack": (
        'test = "test" }\ncon',
        'test = "tset" }\ncon',
        '"tset"',
        "no split",
        "test",
    ),
    "missing file": (
        "data/test.jsonl",
        "data/tests.jsonl",
        "tests.jsonl",
        "no file",
        "data/test.jsonl",
    ),
    "missing model": ("models/llama", "./models/nowhere", "nowhere", "no model folder", None),
    "misspelt model folder": (
        "models/llama",
        "models/lama",
        'models/lama"',
        "no model folder",
        "models/llama",
    ),
    "missing template": (
        'template = "paper.tex"',
        'template = "x.tex"',
        "x.tex",
        "no template",
        None,
    ),
    "width and heads": ("heads = 2", "heads = 3", "heads = 3", "no multiple", None),
    "context without a column": (
        'context = "{text}"',
        'context = "text"',
        "context =",
        "column",
        None,
    ),
    "no number": ("learning_rate = 1e-3", "learning_rate = inf", "inf", "finite number", None),
    "arms in arms": ('arms = ["bridge"]', 'arms = [["bridge"]]', '[["bridge', "valid string", None),
    "files of a hub set": (
        'path = "json"',
        'path = "org/set"',
        "org/set",
        "data_files belong",
        None,
    ),
    "a figure outside": (
        'name = "curves"',
        'name = "curves"\npath = "../x.pdf"',
        "../x",
        "below",
        None,
    ),
    "a layer beyond the model": (
        "layer = 1, latents",
        "layer = 4, latents",
        "layer = 4",
        "has 3",
        None,
    ),
    "one label": (
        'labels = ["red", "blue", "green stone"]',
        'labels = ["red"]',
        "labels =",
        "at least 2",
        None,
    ),
    "settings of an arm that is not there": (
        'arms = ["linear_probe"]',
        'arms = ["bridge"]\nbridge = { layer = 1 }',
        "linear_probe = {",
        "not among the experiment's arms",
        None,
    ),
    "unknown budget unit": ('gpu = "cpu"', 'gpu = "h10"', '"h10"', "'h100'", "h100"),
    "not TOML": ("[budget]", "[budget", "[budget", "not TOML", None),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_spec_is_explained_and_writes_nothing(name: str, project: Project) -> None:
    old, new, place, what, nearest = WRONG[name]
    project.change(old, new)
    lines = project.spec.read_text().splitlines()
    line = 1 + next(number for number, text in enumerate(lines) if place in text)
    before = project.files()
    done = project.run("plan", "small.toml", status=2)
    assert f"small.toml:{line}:" in done.stderr
    assert what in done.stderr
    assert nearest is None or f"did you mean: {nearest}" in done.stderr
    assert done.stderr.count("\n") < 24
    assert project.files() == before


def test_a_sweep_over_a_key_that_does_not_exist(project: Project) -> None:
    project.change("bridge = {", 'sweep = { "bridge.latens" = [2, 4] }\nbridge = {')
    done = project.run("plan", "small.toml", status=2)
    line = 1 + project.spec.read_text().splitlines().index('sweep = { "bridge.latens" = [2, 4] }')
    assert f"small.toml:{line}:11" in done.stderr
    assert "did you mean: bridge.latents" in done.stderr


@pytest.mark.parametrize(
    ("sweep", "what"),
    [
        ('"bridge.latents" = [2, 2]', "twice"),
        ('"bridge.latents" = [2, "4"]', "cannot be '4'"),
        ('"train.epochs" = [2, 0]', "cannot be 0"),
        ("bridge.latents = [2, 4]", 'write "bridge.latents" = [...]'),
        ('"bridge.width" = [16, 32]', "both set and swept"),
        ('"bridge.latents" = [2]', "at least 2 are wanted, 1 given"),
    ],
)
def test_a_sweep_that_cannot_run(project: Project, sweep: str, what: str) -> None:
    table = "bridge = { layer = 1, latents = 4,"
    project.change(table, f"sweep = {{ {sweep} }}\nbridge = {{ layer = 1,")
    assert what in project.run("plan", "small.toml", status=2).stderr


def test_a_swept_setting_counts_as_given(project: Project) -> None:
    project.keep("probe")
    table = "linear_probe = { layer = 1, folds = 2,"
    project.change(table, 'sweep = { "linear_probe.layer" = [1, 2] }\nlinear_probe = { folds = 2,')
    jobs = json.loads(project.run("plan", "small.toml", "--json").stdout)["jobs"]
    labels = {job["label"] for job in jobs if job["kind"] == "fit"}
    for layer in (1, 2):
        assert f"linear_probe colour linear_probe.layer={layer}" in labels
    project.change('sweep = { "linear_probe.layer" = [1, 2] }\n', "")
    done = project.run("plan", "small.toml", status=2)
    assert "experiment 'probe'.linear_probe lacks the key 'layer'" in done.stderr


def test_what_a_list_holds_is_named_by_its_table(project: Project) -> None:
    project.change('[[table]]\nname = "main"', '[[table]]\nname = "main"\narms = [""]')
    project.write(
        project.spec.read_text() + '\n[[claim]]\nname = "near"\nsays = "A"\notherwise = "B"\n'
        'left = "main:bridge/colour"\nright = 1.0\nrelation = "within"\n'
    )
    stderr = project.run("plan", "small.toml", status=2).stderr
    assert "table 'main'.arms: a name has 1 to 64 characters" in stderr
    assert "claim 'near': relation = \"within\" needs a margin" in stderr


@pytest.mark.parametrize(
    ("key", "what", "hint"),
    [
        ("otherwise", "{gpa}", "did you mean: {gap}"),
        ("says", "{nonsense}", "choose among: {left}, {right}, {gap}"),
        ("untested", "{gap}", "what was not tested has no numbers"),
    ],
)
def test_a_claim_names_only_numbers_that_it_has(
    project: Project, key: str, what: str, hint: str
) -> None:
    texts = {"says": "A {left}", "otherwise": "B {gap}", key: f"C ({what} points)"}
    lines = [f'{name} = "{text}"' for name, text in texts.items()]
    ends = ['left = "main:bridge/colour"', "right = 1.0"]
    block = ["", "[[claim]]", 'name = "relay"', *lines, *ends, ""]
    project.write(project.spec.read_text() + "\n".join(block))
    stderr = project.run("plan", "small.toml", status=2).stderr
    assert f"claim 'relay' has no number {what}" in stderr
    assert hint in stderr


@pytest.mark.parametrize(
    ("metric", "what"),
    [
        ('["accuracy", "acuracy"]', "no metric 'acuracy'\n  did you mean: accuracy"),
        ('"rouge1"', "rouge1 is recorded by no experiment of table 'main'"),
        ('"total_ms"', "total_ms is recorded by no experiment of table 'main'"),
    ],
)
def test_a_metric_is_one_that_the_tasks_record(project: Project, metric: str, what: str) -> None:
    project.change('[[table]]\nname = "main"', f'[[table]]\nname = "main"\nmetric = {metric}')
    stderr = project.run("plan", "small.toml", status=2).stderr
    assert what in stderr
    shown = "accuracy, macro_f1, strict_accuracy, unparsed_rate, message_bytes"
    assert f"choose among: {shown}, recovered_gap, parameters, gpu_seconds\n" in stderr


def test_a_sweep_that_leaves_other_arms_as_they_are(project: Project) -> None:
    project.change(
        'arms = ["sender_direct", "receiver_direct", "truncated", "no_message"]',
        'arms = ["truncated", "no_message"]\nsweep = { "truncated.tokens" = [2, 4] }',
    )
    assert "every point would run the same" in project.run("plan", "small.toml", status=2).stderr


def test_a_template_is_of_the_spec_s_folder_or_of_the_repository_around_it(
    project: Project,
) -> None:
    project.change('template = "paper.tex"', 'template = "../paper.tex"')
    spec = project.folder / "specs" / "small.toml"
    spec.parent.mkdir()
    spec.write_text(project.spec.read_text())
    with pytest.raises(SpecError, match="no .tex file below the spec's folder") as caught:
        load(spec, declarations([]))
    assert (caught.value.where or "").startswith(f"{spec}:")
    (project.folder / ".git").mkdir()
    load(spec, declarations([]))
    (project.folder / "paper.tex").rename(project.folder / "paper.txt")
    spec.write_text(spec.read_text().replace("../paper.tex", "../paper.txt"))
    with pytest.raises(SpecError, match="no .tex file"):
        load(spec, declarations([]))


def test_several_errors_are_shown_together(project: Project) -> None:
    project.change("epochs = 2", "epoch = 2")
    project.change("gpu_hours = 2.0", "gpu_hours = -1.0")
    stderr = project.run("plan", "small.toml", status=2).stderr
    assert "unknown key 'epoch'" in stderr
    assert "gpu_hours" in stderr


def test_a_missing_spec_and_a_spec_that_is_not_text(project: Project) -> None:
    assert "cannot read" in project.run("plan", "nothing.toml", status=2).stderr
    project.spec.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in project.run("plan", "small.toml", status=2).stderr
    assert "lwspec plan SPEC" in project.run("status", status=2).stderr
