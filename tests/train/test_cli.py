"""`tasc train` on the command line."""

import dataclasses
import inspect
import json

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from tasc.cli import main
from tasc.cli.train import command
from tasc.corpus import fingerprint
from tasc.train.folder import RunFolder
from tasc.train.options import Options
from tasc.vocab import EnrichedVocabulary
from tiny_models import make_tasks, tiny_model

QUICK = ["--effective-batch", "8", "--batch-size", "4", "--max-steps", "2"]


@pytest.fixture
def place(tmp_path, tokenizer, vocabulary, monkeypatch):
    """The working folder: base/, vocab/, train.jsonl, eval.jsonl."""
    tiny_model("qwen3", rows=258).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    vocabulary.save(tmp_path / "vocab")
    for name, tasks in (("train", make_tasks(40)), ("eval", make_tasks(10, seed=1))):
        lines = [json.dumps({"prompt": r.prompt, "completion": r.completion}) for r in tasks]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tasc_train(*words):
    call = ["train", "--model", "base", "--data", "train.jsonl", "--eval-data", "eval.jsonl", "-o", "run"]
    return CliRunner().invoke(main.app, [*call, *QUICK, *words], env={"TASC_DEBUG": None})


def test_every_option_has_the_default_of_the_library():
    parameters = inspect.signature(command).parameters
    for field in dataclasses.fields(Options):
        assert parameters[field.name].default == field.default, field.name


def test_with_a_vocabulary_and_json(place):
    result = tasc_train("--vocab", "vocab", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["steps"], report["rows"], report["rows_report"]["added"]) == (2, 40, 5)
    assert "step 2/2" in result.stderr
    assert "eval loss" in result.stderr
    assert AutoModelForCausalLM.from_pretrained(place / "run").config.vocab_size == 263
    assert len(AutoTokenizer.from_pretrained(place / "run")) == 263


def test_people_get_a_summary_and_the_next_command(place):
    result = tasc_train()
    assert result.exit_code == 0, result.stderr
    assert "tokens per output" in result.stdout
    assert "tasc eval --model run" in result.stdout


def test_a_budget_mines_first_and_the_same_request_is_not_mined_twice(place):
    result = tasc_train("--budget", "3", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["rows_report"]["added"] == 3
    assert report["tokens_per_output"] < report["base_tokens_per_output"]
    assert AutoTokenizer.from_pretrained(place / "run/vocab").vocab_size == 261
    written = (place / "run/vocab/enriched.json").stat().st_mtime_ns
    again = tasc_train("--budget", "3", "--json")
    assert json.loads(again.stdout) == report
    assert (place / "run/vocab/enriched.json").stat().st_mtime_ns == written
    other = tasc_train("--budget", "4")
    assert other.exit_code == 1
    assert "mined with other rows, options or another tokenizer" in other.stderr
    replaced = tasc_train("--budget", "4", "--overwrite", "--json")
    assert json.loads(replaced.stdout)["rows_report"]["added"] == 4


def test_ngrams_are_mined_again_for_another_tokenizer(place):
    assert tasc_train("--budget", "3").exit_code == 0
    other = AutoTokenizer.from_pretrained(place / "base")
    other.add_tokens(["kitchen"])
    other.save_pretrained(place / "base")
    tiny_model("qwen3", rows=259).save_pretrained(place / "base")
    refused = tasc_train("--budget", "3")
    assert (refused.exit_code, "or another tokenizer" in refused.stderr) == (1, True)
    replaced = tasc_train("--budget", "3", "--overwrite")
    assert replaced.exit_code == 0, replaced.stderr
    assert EnrichedVocabulary.load(place / "run/vocab").fingerprint == fingerprint(other)


def test_ngrams_whose_mining_was_killed_are_mined_again(place, monkeypatch):
    assert tasc_train("--budget", "3").exit_code == 0
    with monkeypatch.context() as patched:
        patched.setattr("tasc.files.write_json", lambda *args: 1 / 0)  # behind the n-grams
        assert isinstance(tasc_train("--budget", "4", "--overwrite").exception, ZeroDivisionError)
    back = tasc_train("--budget", "3", "--overwrite", "--json")
    assert json.loads(back.stdout)["rows_report"]["added"] == 3


def test_nothing_is_mined_where_another_run_is_at_work(place):
    with RunFolder(place / "run", {}).locked():
        (place / "run/keep").touch()
        refused = tasc_train("--budget", "3", "--overwrite")
    assert (refused.exit_code, "another run is at work" in refused.stderr) == (1, True)
    assert [path.name for path in (place / "run").iterdir()] == ["keep"]


def test_a_model_with_ngrams_is_trained_further_and_takes_no_others(place):
    assert tasc_train("--budget", "3").exit_code == 0
    (place / "run").rename(place / "first")
    further = tasc_train("--model", "first", "--json")
    assert further.exit_code == 0, further.stderr
    report = json.loads(further.stdout)
    assert report["rows_report"] is None
    assert report["tokens_per_output"] < report["base_tokens_per_output"]
    refused = tasc_train("--model", "first", "--budget", "3", "--overwrite")
    assert (refused.exit_code, "has n-grams of its own" in refused.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "exit_code", "message"),
    [
        (["--vocab", "vocab", "--budget", "3"], 1, "exclude each other"),
        (["--budget", "many"], 1, "--budget must be a positive number or auto"),
        (["--budget", "0"], 1, "--budget must be a positive number or auto"),
        (["--vocab", "nowhere"], 1, "no such file"),
        (["--lr", "0"], 1, "lr must be above 0"),
        (["--method", "prompt"], 2, "method"),
        (["--model", "nowhere"], 1, "nowhere"),
        (["--data", "nowhere.jsonl"], 1, "nowhere.jsonl"),
    ],
)
def test_what_cannot_work_is_one_line(place, words, exit_code, message):
    result = tasc_train(*words)
    assert result.exit_code == exit_code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (place / "run/config.json").exists()


def test_another_run_in_the_folder_is_refused_until_overwritten(place):
    assert tasc_train().exit_code == 0
    refused = tasc_train("--lr", "1e-3")
    assert refused.exit_code == 1
    assert "lr 0.0002 -> 0.001" in refused.stderr
    assert tasc_train("--lr", "1e-3", "--overwrite").exit_code == 0


def test_rows_shared_by_both_files_and_bad_rows_are_said(place):
    with (place / "eval.jsonl").open("a") as file:
        file.write((place / "train.jsonl").read_text().splitlines()[0] + "\n{broken\n")
    result = tasc_train("--skip-bad")
    assert result.exit_code == 0, result.stderr
    assert "also stand in" in result.stderr
    assert "1 bad rows skipped" in result.stderr


def test_a_launch_that_starts_one_process_only_is_said(place, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert "starts a single process" in tasc_train().stderr
