"""A run folder: what counts as finished, what may be resumed, what is refused."""

import json

import pytest

from tasc.corpus import Row, Tasks
from tasc.errors import OptionError
from tasc.files import write_json
from tasc.train.folder import RunFolder, checkpoint_step, cut_metrics, digest_of_tasks, mark_complete


def checkpoint(folder, step, *, complete=True):
    path = folder.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trained.safetensors").write_bytes(b"12345")
    if complete:
        mark_complete(path)
    return path


@pytest.fixture
def folder(tmp_path):
    opened = RunFolder(tmp_path / "run", {"lr": 1e-4, "seed": 0})
    opened.open(overwrite=False)
    return opened


def test_an_open_run_is_not_finished_and_says_on_what_it_runs(folder):
    stored = folder.stored()
    assert stored["status"] == "running"
    assert stored["options"] == {"lr": 1e-4, "seed": 0}
    assert {"torch", "transformers", "peft", "tasc-lm"} <= stored["versions"].keys()
    assert folder.finished_report() is None


def test_the_same_options_open_it_again_and_others_are_refused_with_the_difference(folder):
    folder.open(overwrite=False)
    other = RunFolder(folder.path, {"lr": 2e-4, "seed": 0})
    with pytest.raises(OptionError, match=r"an unfinished run with other options \(lr 0.0001 -> 0.0002\).*--overwrite"):
        other.open(overwrite=False)
    assert folder.stored()["options"]["lr"] == 1e-4


def test_overwrite_takes_the_place_of_a_run_with_other_options(folder):
    checkpoint(folder, 3)
    other = RunFolder(folder.path, {"lr": 2e-4, "seed": 0})
    other.open(overwrite=True)
    assert other.stored()["options"]["lr"] == 2e-4
    assert other.last_checkpoint() is None


def test_overwrite_still_resumes_an_unfinished_run_of_the_same_options(folder):
    checkpoint(folder, 3)
    folder.open(overwrite=True)
    assert checkpoint_step(folder.last_checkpoint()) == 3


@pytest.mark.parametrize("status", ["running", "finished"])
def test_overwrite_leaves_what_others_put_into_the_folder(folder, status):
    (folder.path / "model.safetensors").write_text("old")
    if status == "finished":
        folder.finish({"steps": 5}, files=["model.safetensors"])
    (folder.path / "task.tasc").write_text("mine")
    other = RunFolder(folder.path, {"lr": 2e-4, "seed": 0})
    for _ in range(2):  # the same command goes on after a kill
        other.open(overwrite=True)
        assert other.stored()["options"]["lr"] == 2e-4
    assert (folder.path / "task.tasc").read_text() == "mine"
    assert (folder.path / "model.safetensors").exists() == (status == "running")


def test_a_run_killed_while_it_is_overwritten_is_no_finished_run(folder, monkeypatch):
    (folder.path / "model.safetensors").write_text("old")
    folder.finish({"steps": 5}, files=["model.safetensors"])
    (folder.path / "task.tasc").write_text("mine")
    other = RunFolder(folder.path, {"lr": 2e-4, "seed": 0})
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "_begin", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            other.open(overwrite=True)
    assert folder.finished_report() is None
    other.open(overwrite=True)
    assert other.stored()["options"]["lr"] == 2e-4


def test_a_folder_that_is_no_run_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OptionError, match=r"no run folder \(it holds thesis.tex\)"):
            RunFolder(tmp_path, {}).open(overwrite=overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_vocabulary_may_stand_there_before(tmp_path):
    (tmp_path / "vocab").mkdir()
    RunFolder(tmp_path, {}).open(overwrite=False)


def test_only_complete_checkpoints_count_and_others_are_cleared(folder):
    checkpoint(folder, 2)
    checkpoint(folder, 10)
    partial = checkpoint(folder, 12, complete=False)
    short = checkpoint(folder, 14)
    (short / "trained.safetensors").write_bytes(b"123")  # as after a power cut
    assert checkpoint_step(folder.last_checkpoint()) == 10
    folder.open(overwrite=False)
    assert not partial.exists()
    assert not short.exists()


def test_a_folder_is_one_runs_at_a_time(folder):
    again = RunFolder(folder.path, folder.options)
    with folder.locked(), folder.staging() as staging:
        (staging / "config.json").write_text("{}")
        with pytest.raises(OptionError, match=f"another run is at work in {folder.path}; "), again.locked():
            again.open(overwrite=False)
    assert (folder.path / "config.json").exists()
    with again.locked():
        again.open(overwrite=False)


def test_a_run_that_ends_before_it_begins_leaves_no_folder(tmp_path):
    folder = RunFolder(tmp_path / "run", {})
    with folder.locked():
        for _ in range(2):  # who is refused takes nothing away
            with pytest.raises(OptionError, match="another run is at work"), folder.locked():
                pass
        assert folder.path.exists()
    assert not folder.path.exists()


def test_an_interrupted_save_leaves_no_model_behind(folder):
    save = folder.staging()
    (save.__enter__() / "config.json").write_text("{}")  # and killed here
    assert not (folder.path / "config.json").exists()
    folder.open(overwrite=False)
    assert {p.name for p in folder.path.iterdir()} == {"run.json"}


def test_a_finished_run_has_a_report_and_no_checkpoints(folder):
    checkpoint(folder, 5)
    with folder.staging() as staging:
        (staging / "config.json").write_text("{}")
        (staging / "model.safetensors").write_bytes(b"")
    folder.finish({"steps": 5}, files=["config.json", "model.safetensors"])
    assert folder.finished_report() == {"steps": 5}
    assert not folder.checkpoints.exists()
    folder.open(overwrite=True)
    assert {p.name for p in folder.path.iterdir()} == {"run.json"}
    assert folder.stored()["status"] == "running"


def test_metrics_of_steps_after_the_checkpoint_are_dropped_with_a_broken_last_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 2, "eval_loss": 1}\n{"step": 3}\n{"st')
    cut_metrics(path, last_step=2)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 2]


def test_the_digest_of_tasks_sees_text_order_and_turns():
    a, b = Row("p", "c"), Row("q", "c")
    chat = Row("p", "c", ({"role": "system", "content": "s"}, {"role": "user", "content": "p"}))
    digests = {digest_of_tasks(Tasks(rows)) for rows in [(a, b), (b, a), (a,), (chat,), (a, chat)]}
    assert len(digests) == 5
    assert digest_of_tasks(Tasks((a, b), "x")) == digest_of_tasks(Tasks((Row("p", "c"), b), "y"))


def test_a_damaged_mark_counts_as_incomplete(folder):
    path = checkpoint(folder, 4)
    (path / "complete.json").write_text("{")
    assert folder.last_checkpoint() is None
    write_json(path / "complete.json", {"missing.bin": 1})
    assert folder.last_checkpoint() is None
