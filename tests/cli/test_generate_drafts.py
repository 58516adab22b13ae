"""`tasc generate --drafter` and `tasc profile` as people call them: reports, files, refusals."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import tasc.draft
import tiny
from drafters import Script, wrong_at
from tasc.cli import main
from tasc.corpus import fingerprint, load_tasks, make_template
from tasc.decode import end_ids, generate
from tasc.draft.cost import StepCost
from tasc.draft.recorded import read_log
from tiny_models import tiny_model


def tasc_(*args: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(main.app, [str(arg) for arg in args], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "test.jsonl"
    rows = [{"prompt": f"row {i}" + " and more" * i, "completion": "intent: alarm_set"} for i in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    tokenizer = tiny.byte_level_bpe()
    tiny_model("llama", rows=len(tokenizer), initializer_range=0.5).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def drafter(folder, data, monkeypatch) -> Script:
    """Stands for the file `task.tasc`: right drafts, but for every fifth token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    template = make_template(tokenizer)
    prompts = template.encode_prompts(load_tasks(data).rows)
    outputs = generate(model, prompts, eos_id=end_ids(model, template), max_new_tokens=24).outputs
    script = Script(
        {tuple(prompt): ids for prompt, ids in zip(prompts, outputs, strict=True)},
        wrong_at(lambda place: place % 5 == 4, len(tokenizer)),
        vocab_size=len(tokenizer),
        fingerprint=fingerprint(tokenizer),
    )

    class Files:
        @staticmethod
        def load(path: Path) -> Script:
            assert Path(path).name == "task.tasc"
            return script

    monkeypatch.setattr(tasc.draft, "Drafter", Files, raising=False)
    return script


def test_compare(folder, data, drafter, tmp_path):
    log = tmp_path / "log.jsonl"
    common = ["--model", folder, "--data", data, "--drafter", "task.tasc", "--max-new-tokens", 24, "--batch-size", 2]
    result = tasc_("generate", *common, "--compare", "--record", log, "--repeats", 2, "--json")
    report = json.loads(result.stdout)
    assert report["identical"] is True
    assert report["tokens_per_pass"] > 2
    assert report["acceptance_by_position"][0] > 0.5
    assert set(report["ms_per_output"]) == {"plain", "speculative"}
    low, high = report["speedup_range"]
    assert low <= report["speedup"] <= high
    assert len(read_log(log).requests) == 5
    shown = tasc_("generate", *common, "--compare", "--limit", 2, "--repeats", 1).output
    assert "2 outputs, identical" in shown
    assert "tokens per pass" in shown


def test_outputs_are_those_without_drafts(folder, data, drafter, tmp_path):
    common = ["generate", "--model", folder, "--data", data, "--max-new-tokens", 24, "--json"]
    tasc_(*common, "-o", tmp_path / "plain.jsonl")
    StepCost.default("cuda").save(tmp_path / "cost.json")
    result = tasc_(
        *common, "--drafter", "task.tasc", "--cost", tmp_path / "cost.json", "-o", tmp_path / "drafted.jsonl"
    )
    report = json.loads(result.stdout)
    plain, drafted = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("plain.jsonl", "drafted.jsonl")
    )
    assert [row["completion"] for row in plain] == [row["completion"] for row in drafted]
    assert sum(row["passes"] for row in drafted) < sum(row["passes"] for row in plain)
    assert report["drafts"]["tokens_per_pass"] > 2


def test_a_drafter_of_another_tokenizer_is_refused(folder, data, drafter):
    drafter.fingerprint = "another"
    result = tasc_("generate", "--model", folder, "--data", data, "--drafter", "task.tasc", "--compare", code=1)
    assert "task.tasc was built with tokenizer another" in result.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--output"),
        (["--compare"], "--compare needs --drafter"),
        (["--record", "x.jsonl", "-o", "y.jsonl"], "--record needs --drafter"),
        (["--cost", "x.json", "-o", "y.jsonl"], "--cost needs --drafter"),
        (["--max-draft", "4", "-o", "y.jsonl"], "--max-draft needs --drafter"),
        (["--drafter", "task.tasc", "--compare", "-o", "y.jsonl"], "leave --output out"),
        (["-o", "DATA"], "is read, and would be replaced"),
        (["--drafter", "task.tasc", "--record", "DATA"], "is read, and would be replaced"),
    ],
)
def test_wrong_usage(folder, data, options, says):
    options = [data if word == "DATA" else word for word in options]
    result = tasc_("generate", "--model", folder, "--data", data, *options, code=2)
    assert says in " ".join(result.output.replace("│", " ").split())


def test_profile(folder, tmp_path):
    path = tmp_path / "cost.json"
    common = [
        "profile",
        "--model",
        folder,
        "--tokens",
        "1,3",
        "--batch-sizes",
        "1,2",
        "--contexts",
        "8",
        "--repeats",
        2,
    ]
    report = json.loads(tasc_(*common, "-o", path, "--json").stdout)
    cost = StepCost.load(path)
    assert cost.to_json() == {key: value for key, value in report.items() if key != "output"}
    assert cost.ms.shape == (2, 1, 2)
    assert cost.about["model"]
    assert "3 tokens" in tasc_(*common).output


def test_contexts_that_do_not_fit_are_said(folder):
    result = tasc_("profile", "--model", folder, "--tokens", "1", "--contexts", "8,100000", "--repeats", 1, "--json")
    assert json.loads(result.stdout)["contexts"] == [8]
    assert "contexts of 100000 tokens do not fit" in " ".join(result.stderr.split())


def test_profile_wrong_usage(folder):
    assert "whole numbers" in tasc_("profile", "--model", folder, "--tokens", "1,x", code=2).output
    assert "must begin with 1" in tasc_("profile", "--model", folder, "--tokens", "2,4", code=1).output


def test_an_engine_that_does_not_start_is_said_in_one_line(monkeypatch):
    def llm(**options):
        assert options["trust_remote_code"] is True
        raise ValueError("Available memory on node 0 (9.41/11.21 GiB)\nand 40 lines more")

    monkeypatch.setattr("tasc.decode.vllm_profile.import_module", lambda _: SimpleNamespace(LLM=llm))
    words = ["profile", "--model", "run", "--engine", "vllm"]
    said = tasc_(*words, "--trust-remote-code", code=1).stderr
    assert said.count("\n") == 1
    assert "run: vLLM did not start (Available memory on node 0 (9.41/11.21 GiB)); its log says why" in said
    assert "vLLM chooses the device itself" in tasc_(*words, "--device", "cpu", code=2).output
