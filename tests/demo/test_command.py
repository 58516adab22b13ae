import json
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from tasc.cli import demo
from tasc.cli.main import app
from tasc.corpus import load_tasks


def test_data_only_writes_data_and_the_base_model(tmp_path):
    out = tmp_path / "data"
    result = CliRunner().invoke(app, ["demo", "--data-only", "-o", str(out), "--seed", "4", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["rows"] == {"train": 8000, "validation": 500, "test": 1000}
    assert len(load_tasks(out, split="test")) == 1000
    assert (out / "base" / "tokenizer.json").is_file()


@pytest.mark.parametrize("name", ["train.jsonl", "test.jsonl", "base"])
def test_data_only_leaves_what_is_there(tmp_path, name):
    own = tmp_path / name
    own.write_text("mine")
    result = CliRunner().invoke(app, ["demo", "--data-only", "-o", str(tmp_path)])
    assert result.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert own.read_text() == "mine"


def test_data_only_says_what_to_do_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["demo", "--data-only", "-o", "data"])
    assert result.exit_code == 0, result.output
    assert "cd data\n" in result.stdout
    assert "tasc analyze train.jsonl --tokenizer base\n" in result.stdout


def test_it_ends_with_the_path_of_the_report(monkeypatch, tmp_path):
    monkeypatch.setattr(demo, "_run", lambda folder, **options: SimpleNamespace(to_json=lambda: {"out": str(folder)}))
    result = CliRunner().invoke(app, ["demo", "-o", str(tmp_path / "run"), "--json"])
    assert json.loads(result.stdout) == {"out": str(tmp_path / "run")}
    assert result.stderr.endswith(f"report: {tmp_path / 'run' / 'report.html'}\n")


@pytest.mark.parametrize("wrong", [["--seed", "-1"], ["--slow"]])
def test_wrong_usage_ends_with_2(wrong):
    assert CliRunner().invoke(app, ["demo", *wrong]).exit_code == 2
