"""Interrupted runs go on from their last checkpoint and end as uninterrupted ones do; two processes share a run."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tasc.corpus import load_tasks
from tasc.train import TrainingInterrupted, finetune
from tasc.train.folder import checkpoint_step
from tiny_models import make_tasks, tiny_model

STEPS = 32
OPTIONS = dict(
    max_steps=STEPS, effective_batch=8, batch_size=4, lr=5e-3, merge_dropout=0.3, save_every=4, eval_every=16
)
FLAGS = [x for k, v in OPTIONS.items() for x in ("--" + k.replace("_", "-"), str(v))]


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer, vocabulary) -> Path:
    """A folder with a base model, a vocabulary and both splits."""
    folder = tmp_path_factory.mktemp("resume")
    tiny_model("qwen3", rows=260, tied=True).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    vocabulary.save(folder / "vocab")
    for name, tasks in (("train", make_tasks(100)), ("eval", make_tasks(10, seed=1))):
        lines = [json.dumps({"prompt": r.prompt, "completion": r.completion}) for r in tasks]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def train(place, out, vocabulary, **options):
    tasks, eval_tasks = load_tasks(place / "train.jsonl"), load_tasks(place / "eval.jsonl")
    return finetune(
        str(place / "base"), tasks, out=out, eval_tasks=eval_tasks, vocabulary=vocabulary, **OPTIONS | options
    )


@pytest.fixture(scope="module")
def uninterrupted(place, vocabulary) -> Path:
    train(place, place / "uninterrupted", vocabulary)
    return place / "uninterrupted"


def command_line(place, out, *, launcher=("-m", "tasc"), flags=FLAGS):
    data = ["--data", place / "train.jsonl", "--eval-data", place / "eval.jsonl", "--vocab", place / "vocab"]
    words = [sys.executable, *launcher, "train", "--model", place / "base", *data, "-o", out, *flags]
    return [str(word) for word in words]


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(x["step"], x.get("loss"), x.get("eval_loss"), x.get("lr")) for x in lines]


def assert_same_result(run, other):
    assert losses(run) == losses(other)
    weights = [np.frombuffer((r / "model.safetensors").read_bytes(), np.uint8) for r in (run, other)]
    np.testing.assert_array_equal(*weights)


def wait_for_step(process, run, step):
    """Until the run has logged `step` and has a checkpoint; the run must not end meanwhile."""
    metrics = run / "metrics.jsonl"
    while process.poll() is None:
        done = metrics.exists() and len(metrics.read_text().splitlines()) >= step
        if done and any((run / "checkpoints").glob("*/complete.json")):
            return
        time.sleep(0.01)
    pytest.fail(f"the run ended with {process.returncode} before step {step}: {process.stderr.read()}")


class CrashError(Exception):
    pass


@pytest.mark.parametrize("at", [1, 6, STEPS])
def test_a_run_that_crashed_at_any_step_ends_as_if_it_had_not(place, uninterrupted, vocabulary, tmp_path, at):
    def crash(record):
        if record["step"] == at:
            raise CrashError

    run = tmp_path / "run"
    with pytest.raises(CrashError):
        train(place, run, vocabulary, on_record=crash)
    assert not (run / "config.json").exists()
    assert json.loads((run / "run.json").read_text())["status"] == "running"
    report = train(place, run, vocabulary)
    assert report.resumed_from == (at - 1) // 4 * 4  # the crash came before the step's own checkpoint
    assert_same_result(run, uninterrupted)


def test_a_run_killed_while_saving_its_result_only_saves_again(place, uninterrupted, vocabulary, tmp_path, monkeypatch):
    def crash(self, merged, template):
        raise CrashError

    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(sys.modules[finetune.__module__].Run, "save", crash)
        with pytest.raises(CrashError):
            train(place, run, vocabulary)
    report = train(place, run, vocabulary)
    assert report.resumed_from == STEPS
    assert_same_result(run, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_with_a_checkpoint(place, uninterrupted, vocabulary, tmp_path, number):
    def interrupt(record):
        if record["step"] == 6:
            os.kill(os.getpid(), number)

    run, before = tmp_path / "run", signal.getsignal(number)
    with pytest.raises(TrainingInterrupted, match="stopped after step 7 of 32"):
        train(place, run, vocabulary, on_record=interrupt)
    assert signal.getsignal(number) is before
    assert [checkpoint_step(p) for p in (run / "checkpoints").iterdir()] == [7]
    assert train(place, run, vocabulary).resumed_from == 7
    assert_same_result(run, uninterrupted)


def test_a_second_ctrl_c_does_not_wait_for_the_step(place, vocabulary, tmp_path):
    def interrupt_twice(record):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        train(place, tmp_path / "run", vocabulary, on_record=interrupt_twice)
    assert not isinstance(caught.value, TrainingInterrupted)


@pytest.mark.slow
def test_kill_9_and_the_same_command_again(place, uninterrupted, tmp_path):
    run = tmp_path / "run"
    with subprocess.Popen(command_line(place, run), stderr=subprocess.PIPE, text=True) as process:
        wait_for_step(process, run, 5)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (run / "config.json").exists()
    again = subprocess.run([*command_line(place, run), "--json"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["resumed_from"] >= 4
    assert "resuming from step" in again.stderr
    assert_same_result(run, uninterrupted)


@pytest.mark.slow
def test_ctrl_c_on_the_command_line_says_how_to_go_on(place, uninterrupted, tmp_path):
    run = tmp_path / "run"
    with subprocess.Popen(command_line(place, run), stderr=subprocess.PIPE, text=True) as process:
        wait_for_step(process, run, 5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130, said
    assert "the same command goes on from it" in said
    assert "Traceback" not in said
    again = subprocess.run(command_line(place, run), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert_same_result(run, uninterrupted)


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(place, vocabulary, tmp_path):
    options = dict(OPTIONS, max_steps=10, lora_dropout=0.0, merge_dropout=0.0, eval_every=5)
    flags = [*(x for k, v in options.items() for x in ("--" + k.replace("_", "-"), str(v))), "--cpu"]
    # accelerate's own --cpu starts one process whatever is asked for; this is its way to several on one machine
    launcher = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1")
    launcher += ("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m", "tasc")
    env = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    command = [*command_line(place, tmp_path / "two", launcher=launcher, flags=flags), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)  # one document although two processes ran
    assert json.loads((tmp_path / "two/run.json").read_text())["options"]["processes"] == 2
    train(place, tmp_path / "one", vocabulary, **options)
    two, one = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert [x[0] for x in two] == [x[0] for x in one]
    np.testing.assert_allclose([x[1] or x[2] for x in two], [x[1] or x[2] for x in one], rtol=1e-4)
    assert report["steps"] == 10
