"""`tasc tune` on the command line."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from tasc import files
from tasc.cli import main
from tasc.corpus import Row, TokenCorpus, load_tasks, load_tokenizer
from tasc.draft import Drafter, build_drafter
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.recorded import append_log
from tasc.replay import replay
from tasc.replay.tune import tune
from tiny import byte_level_bpe

ROOMS = ("attic", "hall", "kitchen", "cellar", "garage")


def made_rows(n: int, seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        room, level, hour = ROOMS[rng.integers(len(ROOMS))], int(rng.integers(100)), int(rng.integers(10, 24))
        rows.append(
            Row(f"set the {room} to {level} at {hour}", f"intent: dim, slots: {{{room}: {level}, time: {hour}}}")
        )
    return rows


def noise_rows(n: int, seed: int) -> list[Row]:
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz0123456789"))
    return [Row(f"say {k}", "".join(rng.choice(letters, 60))) for k in range(n)]


def write_rows(path, rows):
    path.write_text("".join(json.dumps({"prompt": r.prompt, "completion": r.completion}) + "\n" for r in rows))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """tok/, validation.jsonl, noise.jsonl, and the drafters best.tasc and paper.tasc."""
    place = tmp_path_factory.mktemp("tune")
    byte_level_bpe().save_pretrained(place / "tok")
    tokenizer = load_tokenizer(place / "tok")
    write_rows(place / "validation.jsonl", made_rows(220, 1))
    write_rows(place / "noise.jsonl", noise_rows(120, 1))
    for preset in ("best", "paper"):
        drafter = build_drafter(made_rows(150, 0), tokenizer, template="none", preset=preset)
        drafter.save(place / f"{preset}.tasc")
    return place


@pytest.fixture
def place(folder, tmp_path, monkeypatch):
    """A working folder of its own with task.tasc."""
    for path in folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "task.tasc").write_bytes((folder / "best.tasc").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tasc(*words):
    return CliRunner().invoke(main.app, list(words), env={"TASC_DEBUG": None})


def tasc_tune(*words, drafter="task.tasc"):
    return tasc("tune", "--drafter", drafter, "--tokenizer", "tok", *words)


def report_of(*words, **options):
    result = tasc_tune(*words, "--json", **options)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def encoded(drafter, name="validation.jsonl"):
    tasks, tokenizer = load_tasks(name), load_tokenizer("tok")
    outputs = TokenCorpus.encode(tasks.completions, tokenizer)
    return TokenCorpus.encode(tasks.prompts, tokenizer), TokenCorpus.from_rows(
        [*ids.tolist(), drafter.eos_id] for ids in outputs
    )


def test_the_drafter_is_written_and_the_figures_are_those_of_the_library(place):
    before = Drafter.load("task.tasc")
    expected = tune(before, *encoded(before))
    report = report_of("--data", "validation.jsonl")
    assert report["written"] == "task.tasc"
    assert (report["chosen"], report["tried"]) == (expected.chosen, expected.tried)
    assert report["rows"]["held_out"] == len(expected.after.result.requests)
    assert report["plain_ms_per_output"] == pytest.approx(expected.plain_ms_per_output)
    assert report["after"]["tokens_per_pass"] == expected.after.result.tokens_per_pass
    assert report["drafted_ms_per_output"] == report["after"]["ms_per_output"]
    assert report["speedup"]["low"] < report["speedup"]["mid"] < report["speedup"]["high"]
    assert report["verdict"]["helps"] is True
    found = Drafter.load("task.tasc")
    np.testing.assert_array_equal(found.weights, expected.drafter.weights)
    assert list(found.tuned.speedup) == [report["speedup"][name] for name in ("low", "mid", "high")]
    assert found.tuned.max_draft == report["chosen"]["max_draft"]


def test_replay_goes_by_what_was_tuned(place):
    report_of("--data", "validation.jsonl", "--device", "cuda", "--max-draft", "13")
    tuned = Drafter.load("task.tasc").tuned
    words = ("replay", "--drafter", "task.tasc", "--tokenizer", "tok", "--data", "validation.jsonl", "--json")
    found = json.loads(tasc(*words).stdout)
    assert found["max_draft"] == tuned.max_draft
    assert found["cost"]["device"] == "cuda"
    StepCost.default("cpu").save("cpu.json")
    found = json.loads(tasc(*words, "--max-draft", "3", "--cost", "cpu.json").stdout)
    assert (found["max_draft"], found["cost"]["device"]) == (3, "cpu")


def test_info_says_how_the_drafter_was_tuned(place):
    assert json.loads(tasc("draft", "info", "task.tasc", "--json").stdout)["tuned"] is None
    report = report_of("--data", "validation.jsonl", "--max-draft", "7")
    found = json.loads(tasc("draft", "info", "task.tasc", "--json").stdout)["tuned"]
    assert found == {
        "max_draft": report["chosen"]["max_draft"],
        "speedup": report["speedup"],
        "rows": report["rows"]["held_out"],
        "device": "cpu",
    }
    shown = tasc("draft", "info", "task.tasc").stdout
    assert f"drafts up to {found['max_draft']}, predicted {found['speedup']['mid']:.2f} times as fast" in " ".join(
        shown.split()
    )


def test_a_dry_run_and_another_file_leave_the_drafter_as_it_is(place):
    old = (place / "task.tasc").read_bytes()
    dry = report_of("--data", "validation.jsonl", "--dry-run")
    assert dry["written"] is None
    assert sorted(path.name for path in place.iterdir()) == sorted([*NAMES, "task.tasc"])
    report_of("--data", "validation.jsonl", "-o", "other.tasc")
    assert (place / "task.tasc").read_bytes() == old
    assert Drafter.load("other.tasc").tuned is not None


NAMES = ("tok", "validation.jsonl", "noise.jsonl", "best.tasc", "paper.tasc")


def test_interrupted_writing_leaves_the_old_file(place, monkeypatch):
    old = (place / "task.tasc").read_bytes()

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", interrupt)
    result = tasc_tune("--data", "validation.jsonl")
    assert result.exit_code == 130
    assert (place / "task.tasc").read_bytes() == old
    assert sorted(path.name for path in place.iterdir()) == sorted([*NAMES, "task.tasc"])


def test_a_log_is_tuned_with_its_curve_limits_and_batches(place):
    drafter = Drafter.load("task.tasc")
    curve = StepCost((1, 2, 4), (1,), (0,), [[[10.0, 10.5, 11.0]]], about={"device": "made up"})
    prompts, outputs = encoded(drafter)
    run = replay(
        drafter, prompts, outputs, control=Control(curve), before_prefill=True, limits=[40] * 220, batch_size=4
    )
    about = {"fingerprint": drafter.fingerprint, "cost": curve.to_json()}
    append_log(place / "run.jsonl", run.requests, about=about)
    report = report_of("--log", "run.jsonl", "--dry-run")
    assert (report["cost"]["device"], report["batch_size"], report["requests"]) == ("made up", 4, 220)
    assert max(one["max_draft"] for one in report["tried"]) == 15  # as it was; the curve ends at 4 tokens
    assert report["chosen"]["max_draft"] <= 3
    alone = report_of("--log", "run.jsonl", "--dry-run", "-b", "1", "--device", "cpu", "--limit", "150")
    assert (alone["cost"]["device"], alone["batch_size"], alone["rows"]["total"]) == ("cpu", 1, 150)

    append_log(place / "other.jsonl", run.requests, about={"fingerprint": "sha256:other"})
    refused = tasc_tune("--log", "other.jsonl")
    assert (refused.exit_code, "recorded with tokenizer sha256:other" in refused.stderr) == (1, True)


def test_the_verdict_on_text_that_nothing_predicts(place):
    found = report_of("--data", "noise.jsonl", "--dry-run")
    assert found["verdict"]["helps"] is False
    assert found["speedup"]["mid"] < 1.01


def test_paper_preset(place):
    report = report_of("--data", "validation.jsonl", "-o", "tuned.tasc", "--max-draft", "6", drafter="paper.tasc")
    options = Drafter.load("tuned.tasc").options
    assert options.preset == "paper"
    assert report["chosen"].items() >= {"lam": options.lam, "n_max": options.n_max, "p_min": options.p_min}.items()


def test_people_read_a_verdict(place):
    result = tasc_tune("--data", "validation.jsonl", "--dry-run", "--max-draft", "4")
    assert result.exit_code == 0, result.stderr
    text = " ".join(result.stdout.split())
    assert "Drafts will help here" in text
    assert "nothing written" in text
    assert "95% interval" in text


def test_another_tokenizer_is_refused(place):
    byte_level_bpe(vocab_size=300).save_pretrained("other")
    result = tasc("tune", "--drafter", "task.tasc", "--tokenizer", "other", "--data", "validation.jsonl")
    assert (result.exit_code, "was built with tokenizer sha256:" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        ([], 2, "pass --data"),
        (["--data", "validation.jsonl", "--log", "run.jsonl"], 2, "pass --data"),
        (["--data", "validation.jsonl", "--dry-run", "-o", "x.tasc"], 2, "--dry-run writes nothing"),
        (["--data", "validation.jsonl", "--cost", "c.json", "--device", "cpu"], 2, "leave it out"),
        (["--data", "validation.jsonl", "-o", "validation.jsonl"], 2, "is read, and would be"),
        (["--data", ".", "--split", "noise", "-o", "noise.jsonl"], 2, "is read, and would be"),
        (["--log", "noise.jsonl", "-o", "noise.jsonl"], 2, "is read, and would be"),
        (["--data", "validation.jsonl", "--limit", "30"], 1, "at least 100 distinct rows, got"),
        (["--data", "gone.jsonl"], 1, "gone.jsonl"),
        (["--data", "validation.jsonl", "--cost", "gone.json"], 1, "gone.json"),
    ],
)
def test_wrong_use_ends_in_one_line(place, words, code, reason):
    result = tasc_tune(*words)
    assert (result.exit_code, reason in " ".join(result.stderr.split())) == (code, True), result.stderr


def test_a_folder_that_cannot_be_written_ends_in_one_line(place):
    (place / "file").write_text("")
    result = tasc_tune("--data", "validation.jsonl", "--max-draft", "1", "-o", "file/task.tasc")
    assert (result.exit_code, len(result.stderr.strip().splitlines())) == (2, 1)
    assert "file is a file; pass a folder" in result.stderr
