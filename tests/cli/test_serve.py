"""`tasc serve --dry-run`: the command that vLLM is started with, and what is refused before. The engine: tests_vllm/."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tasc.cli import main, serve
from tasc.corpus import load_tokenizer
from tasc.draft import build_drafter
from tasc.draft.cost import StepCost
from tasc.errors import OptionError
from tiny import byte_level_bpe
from tiny_models import make_tasks, tiny_model

REAL = metadata.version


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """run/, a model with its tokenizer; task.tasc, its drafter."""
    folder = tmp_path_factory.mktemp("made")
    tokenizer = byte_level_bpe()
    tokenizer.save_pretrained(folder / "run")
    tiny_model("qwen2", rows=len(tokenizer)).save_pretrained(folder / "run")
    build_drafter(make_tasks(20).rows, load_tokenizer(folder / "run"), template="plain").save(folder / "task.tasc")
    return folder


@pytest.fixture(autouse=True)
def place(made, tmp_path, monkeypatch):
    """The working folder: a copy of what was made. vLLM 0.32 seems to be installed."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    installed(monkeypatch, vllm="0.32.0")
    return tmp_path


def installed(monkeypatch, **versions):
    """Have these distributions of vLLM, by the name without dash, and no other."""

    def version(name):
        if not name.startswith("vllm"):
            return REAL(name)
        if name.replace("-", "") not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name.replace("-", "")]

    monkeypatch.setattr(metadata, "version", version)


def run(*words, env=None):
    return CliRunner().invoke(main.app, ["serve", *words], env={"TASC_DEBUG": None, "COLUMNS": "200"} | (env or {}))


def command(*words, env=None):
    result = run("run", *words, "--dry-run", "--json", env=env)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["command"]


def option(words, name):
    return words[words.index(name) + 1]


def fails(*words, env=None):
    result = run("run", *words, "--dry-run", env=env)
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


def test_vllm_is_told_the_proposer_and_its_options(place):
    words = command("--drafter", "task.tasc", "--memory-tokens", "100", "--no-switch-off", "--max-draft", "7")
    assert words[1:5] == ["-m", "vllm.entrypoints.cli.main", "serve", "run"]
    assert json.loads(option(words, "--speculative-config")) == {
        "method": "custom_class",
        "model": "tasc.decode.vllm.Proposer",
        "num_speculative_tokens": 7,
    }
    assert json.loads(option(words, "--additional-config")) == {
        "tasc": {"drafters": {"": str(place / "task.tasc")}, "memory_tokens": 100, "switch_off": False}
    }


def test_other_options_go_to_vllm_as_they_are():
    words = command(
        "--drafter", "task.tasc", "--port", "8011", "-tp", "2", "--api-key", "secret", "--no-enable-log-requests"
    )
    assert words[-8:] == ["127.0.0.1", "--port", "8011", "-tp", "2", "--api-key", "secret", "--no-enable-log-requests"]


def test_the_host_is_this_machine_unless_said_otherwise():
    assert option(command("--drafter", "task.tasc"), "--host") == "127.0.0.1"
    words = command("--drafter", "task.tasc", "--host", "0.0.0.0")
    assert words.count("--host") == 1
    assert option(words, "--host") == "0.0.0.0"


@pytest.mark.parametrize("given", [["--additional-config", '{"other": 1}'], ['--additional-config={"other": 1}']])
def test_additional_config_of_the_users_own_stays(given):
    words = command("--drafter", "task.tasc", *given, "--port", "1")
    assert words.count("--additional-config") == 1
    found = json.loads(option(words, "--additional-config"))
    assert found["other"] == 1
    assert set(found) == {"other", "tasc"}
    assert words[-2:] == ["--port", "1"]


def test_adapters_have_drafters_by_name(place):
    words = command(
        "--drafter", "a=task.tasc", "--drafter", "task.tasc", "--enable-lora", "--lora-modules", "a=x", '{"name": "b"}',
    )  # fmt: skip
    table = json.loads(option(words, "--additional-config"))["tasc"]["drafters"]
    assert table == {"a": str(place / "task.tasc"), "": str(place / "task.tasc")}
    assert "served are run, a, b" in fails("--drafter", "c=task.tasc", "--lora-modules", "a=x", '{"name": "b"}')
    late = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    assert command("--drafter", "c=task.tasc", env=late)


def test_a_file_may_have_an_equals_sign(place):
    (place / "a=b.tasc").write_bytes((place / "task.tasc").read_bytes())
    table = json.loads(option(command("--drafter", "a=b.tasc"), "--additional-config"))["tasc"]["drafters"]
    assert table == {"": str(place / "a=b.tasc")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--drafter", "none.tasc"], "no file none.tasc; build one with 'tasc draft build'"),
        (["--drafter", "x=task.tasc"], "drafter for 'x', but served are run"),
        (["--drafter", "task.tasc", "--drafter", "task.tasc"], "has a drafter already"),
        (["--drafter", "task.tasc", "--speculative-config", "{}"], "contradicts --drafter"),
        (["--drafter", "task.tasc", "-sc", "{}"], "contradicts --drafter"),
        (["--drafter", "task.tasc", "--speculative_config", "{}"], "contradicts --drafter"),
        (["--drafter", "task.tasc", "--spec-method", "ngram"], "contradicts --drafter"),
        (["--drafter", "task.tasc", "--lora-modules", "{x"], "--lora-modules must be NAME=PATH"),
        (["--drafter", "task.tasc", "--additional-config", "[1]"], "must be a JSON object"),
        (["--drafter", "task.tasc", "--additional-config", "{"], "must be a JSON object"),
        (["--drafter", "task.tasc", "--additional-config", '{"tasc": {}}'], "without 'tasc'"),
        (["--drafter", "task.tasc", "--memory-tokens", "16777217"], "memory_tokens must be from 0 to 16777216"),
        (["--drafter", "task.tasc", "--cost", "run/config.json"], "not a step-cost file"),
        (["--drafter", "task.tasc", "--vocab", "run"], "enriched.json: no such file"),
        (["--drafter", "task.tasc", "--pipeline-parallel-size", "2"], "no drafts with pipeline stages"),
        (["--drafter", "task.tasc", "-pp", "2"], "no drafts with pipeline stages"),
    ],
)
def test_what_cannot_work_is_refused_before_the_server_starts(words, message):
    assert message in fails(*words)


def test_a_drafter_of_another_tokenizer_is_refused():
    other = byte_level_bpe()
    other.add_tokens(["zz"])
    other.save_pretrained("other")
    build_drafter(make_tasks(20).rows, load_tokenizer("other"), template="plain").save("other.tasc")
    assert "other.tasc was built with tokenizer" in fails("--drafter", "other.tasc")


def test_a_recurrent_model_is_refused(place):
    from transformers import MambaConfig

    MambaConfig(vocab_size=400, hidden_size=8, num_hidden_layers=1).save_pretrained(place / "run")
    assert "cache that can be rolled back" in fails("--drafter", "task.tasc")


def test_versions(monkeypatch):
    words = ["--drafter", "task.tasc"]
    installed(monkeypatch, vllm="0.31.2")
    assert "at least 0.32" in fails(*words)
    installed(monkeypatch, vllm="0.40.0")
    assert "written for 0.32 and 0.33" in run("run", *words, "--dry-run").stderr
    installed(monkeypatch, vllmcpu="0.32.0")
    assert command(*words)[2] == "vllm.entrypoints.openai.api_server"
    installed(monkeypatch)
    assert "vLLM is not installed" in run("run", *words).stderr


BECOME = """
import sys
import tempfile
from tasc.cli import serve
serve._become([sys.executable, "-c", "import os; print(os.environ['PROMETHEUS_MULTIPROC_DIR'], flush=True); input()"])
"""


def test_counters_are_removed_when_their_server_has_ended_and_not_before(tmp_path, monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "tasc-metrics-999999999-abc"  # as servers of older versions left them
    left.mkdir()
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        [sys.executable, "-c", BECOME], env=os.environ | {"TMPDIR": str(tmp_path)}, **options
    ) as server:
        counters = Path(server.stdout.readline().strip())
        assert counters.parent == tmp_path
        assert not left.exists()
        assert Path(serve._metrics_folder()).parent == tmp_path
        assert counters.exists()
        server.kill()
    serve._metrics_folder()
    assert not counters.exists()


def test_counters_go_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "given"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert serve._metrics_folder() == str(tmp_path / "given")


def test_a_folder_in_which_no_file_can_be_made_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr(serve, "_lock_of", lambda _: (None, False))
    with pytest.raises(OptionError, match="set TMPDIR"):
        serve._metrics_folder()
    assert not list(tmp_path.glob("tasc-metrics-*"))


def test_without_locks_no_folder_of_counters_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr(serve, "lock", lambda *_, **__: None)
    folders = [serve._metrics_folder() for _ in range(2)]
    assert len(set(folders)) == 2
    assert all(os.path.isdir(folder) for folder in folders)


def test_json_needs_a_dry_run():
    assert "--json needs --dry-run" in run("run", "--drafter", "task.tasc", "--json").stderr


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ("", "--max-num-seqs 256 --max-num-batched-tokens 6400"),
        ("--max-num-seqs 64", ""),
        ("--max-num-seqs 128", "--max-num-batched-tokens 3200"),
        ("--max-num-batched-tokens 4000", "--max-num-seqs 160"),
        ("--max-num-batched-tokens=100000", "--max-num-seqs 256"),
        ("--max_num_seqs 4 --max-num-batched-tokens 100", ""),
    ],
)
def test_with_adapters_a_pass_has_room_for_every_sequence_s_draft(given, added):
    """vLLM does not start otherwise, and its defaults are too small for drafts of 24."""
    words = ["run", "--drafter", "task.tasc", "--dry-run", *given.split()]
    plain = run(*words).stdout.split()
    assert run(*words, "--enable-lora").stdout.split() == [*plain, "--enable-lora", *added.split()]


def test_names_may_stand_in_vllm_s_own_file():
    words = ["run", "--drafter", "named=task.tasc", "--dry-run"]
    assert "served are run" in run(*words).stderr
    assert run(*words, "--config", "vllm.yaml").exit_code == 0


def test_too_small_a_pass_for_adapters_is_refused():
    words = [
        "--drafter",
        "task.tasc",
        "--enable-lora",
        "--max-num-seqs",
        "8",
        "--max-num-batched-tokens",
        "199",
        "--dry-run",
    ]
    assert "(--max-draft + 1) = 200, got 199" in run("run", *words).stderr
    assert run("run", *words, "--max-draft", "23").exit_code == 0


def test_own_options_with_underscores_do_not_go_to_vllm():
    assert "as --max-draft; vLLM" in run("run", "--drafter", "task.tasc", "--max_draft", "5", "--dry-run").stderr


def test_a_curve_that_was_not_measured_in_vllm_is_taken_with_a_warning(place):
    words = ["--drafter", "task.tasc", "--cost", "cost.json", "--dry-run"]
    for about, warned in (({}, True), ({"engine": "vllm 0.32.0"}, False)):
        StepCost((1, 2), (1,), (0,), [[[1.0, 1.0]]], about=about).save(place / "cost.json")
        result = run("run", *words)
        assert result.exit_code == 0
        assert ("cost.json was not measured in vLLM" in result.stderr) == warned
