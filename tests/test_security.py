"""Nothing is let in by a name, a file, a template or a text: what docs/security.md promises."""

from __future__ import annotations

import ast
import os
import shlex
import stat
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Project
from papers import MINIMAL
from pydantic import TypeAdapter, ValidationError

from lwspec.cli.arguments import database, parser
from lwspec.cli.terminal import printable
from lwspec.engine.executors.slurm import sbatch
from lwspec.engine.executors.slurm.submission import intend
from lwspec.engine.fields import Line, Name, Revision, TablePath
from lwspec.engine.modes import keep_the_world_out, own_cache
from lwspec.engine.runs.runfolder import Runs
from lwspec.engine.spec.cluster import Cluster
from lwspec.engine.store.store import Store
from lwspec.errors import ReportError
from lwspec.kernels.data.stored import write_pooled, write_states
from lwspec.kernels.training.checkpoint import save_weights
from lwspec.report.paper.pdf import compile_pdf
from lwspec.report.paper.template import fill

UNPICKLE = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
FORBIDDEN = {"load_pickle", "read_pickle", "eval", "exec", "mktemp", "load_from_disk"}
SAFE = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
LATEX = subprocess.run(["which", "latexmk"], capture_output=True).returncode == 0


def dangers(source: str) -> list[str]:
    """What of a module's text loads a pickle, evaluates a text, starts a shell or formats SQL."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [n.name for n in node.names if n.name.split(".")[0] in UNPICKLE]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if (node.module or "").split(".")[0] in UNPICKLE else []
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords if word.arg}
            last = name.rpartition(".")[2]
            if last in FORBIDDEN and name != "model.eval" and not _method_eval(node, last):
                found.append(name)
            if name in ("os.system", "os.popen") or given.get("shell") == "True":
                found.append(name)
            if last == "exec_driver_sql" and _made(node.args[0]):
                found.append(name)
            if name in SAFE and given.get(SAFE[name][0]) != str(SAFE[name][1]):
                found.append(name)
            if given.get("trust_remote_code") == "True" or given.get("weights_only") == "False":
                found.append(name)
    return found


def _method_eval(node: ast.Call, last: str) -> bool:
    """Whether it is torch's `module.eval()`, which takes nothing."""
    return last == "eval" and isinstance(node.func, ast.Attribute) and not node.args


def _made(text: ast.expr) -> bool:
    """Whether a text is put together from others."""
    return any(isinstance(n, ast.JoinedStr | ast.BinOp | ast.Call) for n in ast.walk(text))


def test_nothing_in_the_code_unpickles_evaluates_or_starts_a_shell() -> None:
    files = sorted((ROOT / "lwspec").rglob("*.py"))
    assert len(files) > 100
    found = {str(file): dangers(file.read_text()) for file in files}
    assert {file: what for file, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from joblib import load", "torch.load(path)", "eval(text)",
        "np.load(path)", "torch.load(path, weights_only=False)", "subprocess.run(x, shell=True)",
        "os.system(x)", "c.exec_driver_sql(f'DROP {x}')", "pandas.read_pickle(x)",
        "M.from_pretrained(x, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_the_scan_sees_what_it_looks_for(line: str) -> None:
    assert dangers(line)
    assert not dangers("torch.load(path, weights_only=True); model.eval(); np.asarray(x)")


@pytest.mark.parametrize(
    "name",
    [
        "..", ".", ".hidden", "a/b", "/etc/passwd", "../up", "-rf", "=cmd|'calc'!A0", "+1+1",
        "@SUM(1)", "a\0b", "a\nb", "a\x1b[2J", "a\x9b2J", "a\u202eb", "", " a", "a" * 65,
        "\U0001f600" * 64,
    ],
)  # fmt: skip
def test_a_name_neither_leaves_its_folder_nor_steers_what_reads_it(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


@pytest.mark.parametrize(
    "name", ["$(touch x)", "'; DROP TABLE jobs; --", r"\write18{x}", "é\u2028b"]
)
def test_other_names_are_kept_as_they_are(name: str) -> None:
    assert TypeAdapter(Name).validate_python(name) == name


@pytest.mark.parametrize("path", ["/x.tex", "../x.tex", "a/../../x.tex", "a\nb.tex", "a\0.tex"])
def test_an_artefact_stays_below_the_paper(path: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(TablePath).validate_python(path)


@pytest.mark.parametrize("revision", ["../../x", "a/../b", "-x", "", "a b", "a\nb", "/x"])
def test_a_revision_is_no_path(revision: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Revision).validate_python(revision)


def test_what_sbatch_is_given_holds_no_second_line(tmp_path: Path) -> None:
    for wrong in ({"partition": "a\ntouch x"}, {"sbatch": {"comment": "a\ntouch x"}},
                  {"modules": ["a\ntouch x"]}, {"sbatch": {"comment\ntouch x": "a"}}):  # fmt: skip
        with pytest.raises(ValidationError):
            Cluster.model_validate(wrong)
    hostile = "$(touch x) `touch x` '; touch x #"
    TypeAdapter(Line).validate_python(hostile)
    folder = tmp_path / hostile.replace("/", "")
    asked = {"job_name": hostile, "partition": hostile, "setup": [], "time": 5}
    script = tmp_path / "script"
    runs = 'srun() { printf "%s\\n" "$@" > arguments; }\n'
    script.write_text(runs + sbatch.text(asked, 1, folder))
    subprocess.run(["bash", str(script)], cwd=tmp_path, check=True, capture_output=True)
    assert not (tmp_path / "x").exists()
    assert (tmp_path / "arguments").read_text().splitlines()[-1] == str(folder.resolve())
    assert shlex.split(sbatch.command_of(folder))[-1] == str(folder.resolve())


def test_a_cluster_s_setup_holds_no_token() -> None:
    for line in ("export HF_TOKEN=abc", 'DB_PASSWORD="abc" x', "a; WANDB_API_KEY=1"):
        with pytest.raises(ValidationError, match="would stand in a file"):
            Cluster(setup=(line,))
    Cluster(setup=("export HF_TOKEN=$(cat ~/.token)", 'A_KEY="$B_KEY"', "PATH=/x:$PATH"))


def test_the_database_is_the_file_that_was_named(tmp_path: Path) -> None:
    Store(tmp_path / "a?mode=memory&x#y.db", shared=True)
    assert [path.name for path in tmp_path.glob("*.db")] == ["a?mode=memory&x#y.db"]
    assert database("results.db") == Path("results.db")


def test_a_password_on_the_command_line_is_not_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["status", "--db", "mysql://me:canary77@host/db"])
    assert "canary77" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        r"\VAR{''.__class__.__mro__[1].__subclasses__()}",
        r"\VAR{cycler.__init__.__globals__.os.popen('touch x').read()}",
        r"\VAR{words.append(1)}",
        r"\VAR{range(10**9)|list|length}",
        r"\BLOCK{include '/etc/passwd'}",
    ],
)
def test_a_template_runs_nothing(text: str, tmp_path: Path) -> None:
    template = tmp_path / "paper.tex"
    template.write_text(text)
    with pytest.raises(ReportError):
        fill(template, "out.tex", {"title": "a", "words": ["a"]}, frozenset())


def test_a_template_inputs_nothing_through_a_link(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "outside.tex").write_text("secret")
    (home / "link.tex").symlink_to(tmp_path / "outside.tex")
    (home / "paper.tex").write_text(r"\input{link}\input{../outside}\input{/etc/passwd}")
    filled = fill(home / "paper.tex", "out.tex", {}, frozenset())
    assert len(filled.parts) == 1 and not filled.beside


@pytest.mark.skipif(not LATEX, reason="latexmk is not installed")
def test_latex_runs_nothing_and_opens_nothing_outside(tmp_path: Path) -> None:
    paper = tmp_path / "paper"
    paper.mkdir()
    (tmp_path / "outside.tex").write_text("secret")
    (paper / "latexmkrc").write_text(f"system('touch {tmp_path}/rc');")
    (paper / ".latexmkrc").write_text(f"system('touch {tmp_path}/rc');")
    made = tmp_path / "made.json"
    (paper / "a.tex").write_text(MINIMAL % rf"\immediate\write18{{touch {tmp_path}/shell}}x")
    assert compile_pdf(paper / "a.tex", 0.0, made)
    for name, body in {
        "b": rf"\input{{{tmp_path}/outside.tex}}",
        "c": r"\input{../outside.tex}",
        "d": rf"\newwrite\f\immediate\openout\f={tmp_path}/written.tex x",
        "e": r"\newwrite\f\immediate\openout\f=../written.tex x",
    }.items():
        (paper / f"{name}.tex").write_text(MINIMAL % body)
        with pytest.raises(ReportError):
            compile_pdf(paper / f"{name}.tex", 0.0, made)
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {"paper", "outside.tex", "made.json"}


def test_a_text_does_not_steer_the_terminal() -> None:
    shown = printable("a\x1b]0;title\x07b\x9b2Jc\u202ed\te\nf")
    assert shown == "a\\x1b]0;title\\x07b\\x9b2Jc\\u202ed\te\nf"
    assert printable("10%\r50%\r100%\r\nend\r\n") == "100%\nend\n"


def test_an_error_does_not_steer_the_terminal(project: Project) -> None:
    done = project.run("plan", "no\x1b[2J\x9b.toml", status=2)
    assert "\x1b" not in done.stderr and "\x9b" not in done.stderr and "\\x1b" in done.stderr


def test_nobody_else_may_write_and_who_shares_the_budget_may_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0)
    try:
        keep_the_world_out()
        submission = intend(Runs(tmp_path / "runs"), "a", {"packs": []})
        os.umask(0o077)
        keep_the_world_out()
        strict = os.umask(0)
    finally:
        os.umask(before)
    assert strict == 0o077
    modes = {path: path.stat().st_mode for path in (tmp_path / "runs").rglob("*")}
    assert len(modes) == 3
    assert not [path for path, mode in modes.items() if mode & stat.S_IWOTH]
    assert submission.path.stat().st_mode & stat.S_IROTH  # by those who share the budget
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert stat.S_IMODE(own_cache("code").stat().st_mode) == 0o700


def test_weights_and_states_have_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_weights(tmp_path / "weights" / "a.safetensors", {"a": torch.zeros(2)})
        write_states(tmp_path / "states" / "a.safetensors", [torch.zeros(2, 3)], 3)
        write_pooled(tmp_path / "pooled" / "a.safetensors", [torch.zeros(2, 3)], 3)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("*/*.safetensors")]
    assert modes == [0o640] * 3
