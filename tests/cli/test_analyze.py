"""`tasc analyze` as people and scripts call it."""

import json

import pytest
from typer.testing import CliRunner

import tiny
from tasc.cli import main

WORDS = ("alarm", "timer", "music", "lights")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tokenizer and a training file."""
    folder = tmp_path_factory.mktemp("analyze")
    tiny.byte_level_bpe().save_pretrained(folder / "tokenizer")
    rows = [
        {
            "prompt": f"please number {i} now",
            "completion": f"intent: {WORDS[i % 4]}_set, slot fills: {{time: seven am}}",
        }
        for i in range(120)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3] * 2))
    return folder


def run(folder, *args):
    return CliRunner().invoke(main.app, ["analyze", *map(str, args), "--tokenizer", str(folder / "tokenizer")])


def unwrapped(text):
    """Text without white space: where lines break depends on the terminal."""
    return "".join(text.split())


def test_json_is_the_only_thing_on_stdout(folder):
    result = run(folder, folder / "train.jsonl", "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["rows"] == 120
    assert report["recommendation"]["verdict"] == "tasc-ft"
    assert [s["budget"] for s in report["predicted_shortening"]] == [150, 250, 500, 1000]
    assert "encoding outputs: 120/120 rows" in result.stderr


def test_people_get_tables_and_the_advice(folder):
    result = run(folder, folder / "train.jsonl")
    assert result.exit_code == 0, result.stderr
    for text in (
        "120 rows, 4 distinct outputs",
        "word bigrams: CDF80",
        "12 held-out rows",
        "Use TASC-ft with a budget",
    ):
        assert text in " ".join(result.stdout.split())  # long paths wrap
    assert "held-out rows: take the figures as rough" in " ".join(result.stdout.split())


def test_shared_rows_are_reported(folder):
    result = run(folder, folder / "train.jsonl", "--eval", folder / "validation.jsonl", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["held_out"]["shared_with_train"] == 3
    warning = f"warning: 3 distinct rows of {folder / 'validation.jsonl'} also stand in {folder / 'train.jsonl'}"
    assert unwrapped(warning) in unwrapped(result.stderr)


def test_folders_of_splits(folder):
    result = run(folder, folder, "--eval", folder, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["rows"], report["held_out"]["rows"]) == (120, 6)
    assert (
        run(folder, folder, "--split", "validation", "--eval", folder, "--eval-split", "train", "--json").exit_code == 0
    )


def test_bad_rows_are_skipped_and_reported(folder, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text((folder / "train.jsonl").read_text() + "{\n[]\n")
    result = run(folder, path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"error: {path}:121: broken JSON" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    result = run(folder, path, "--skip-bad", "--json")
    assert json.loads(result.stdout)["skipped"] == 2
    warning = f"warning: {path}: 2 bad rows skipped, the first: {path}:121: broken JSON"
    assert unwrapped(warning) in unwrapped(result.stderr)


def test_columns_and_limit(folder, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("q,a\n" + "hello there,good day to you\n" * 9)
    options = ("--prompt-column", "q", "--completion-column", "a", "--limit", "5", "--json")
    assert json.loads(run(folder, path, *options).stdout)["rows"] == 5


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"prompt": "a", "completion": "b"}\n' * 811 + '{"prompt": "a", "comp\n', ":812: broken JSON"),
        ("", "empty"),
        ('{"x": 1}\n', "no column 'prompt'; found: x"),
        ('{"prompt": "a", "completion": ""}\n', "empty completion"),
        (None, "a.jsonl: no such file"),
    ],
)
def test_bad_input_is_one_line_that_names_the_file(folder, tmp_path, content, reason):
    path = tmp_path / "a.jsonl"
    if content is not None:
        path.write_text(content)
    result = run(folder, path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {path}")
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_tokenizer_is_one_line(folder, tmp_path):
    arguments = ["analyze", str(folder / "train.jsonl"), "--tokenizer", str(tmp_path / "none")]
    result = CliRunner().invoke(main.app, arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no such folder; pass a folder with a tokenizer.json" in result.stderr
