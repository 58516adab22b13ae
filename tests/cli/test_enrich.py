"""`tasc enrich` on files: the JSON, the page for people, the errors."""

import json

import pytest
from typer.testing import CliRunner

import tiny
from tasc.cli.main import app

RUNNER = CliRunner()


@pytest.fixture
def files(tmp_path):
    tokenizer = tmp_path / "tokenizer"
    tiny.byte_level_bpe().save_pretrained(tokenizer)
    for name, seed in (("train", 0), ("dev", 7)):
        made = [
            {"prompt": f"p{seed}{k}", "completion": f"intent: play_music, slot fills: {{artist: band {k % 5}}}"}
            for k in range(60)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
    return tmp_path


def run(files, *options):
    data, tokenizer, out = files / "train.jsonl", files / "tokenizer", files / "out"
    return RUNNER.invoke(app, ["enrich", str(data), "--tokenizer", str(tokenizer), "-o", str(out), *options])


def test_json_has_the_documented_keys(files):
    result = run(files, "--budget", "4", "--eval", str(files / "dev.jsonl"), "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["added"] == 4
    assert report["prompt_drift"] == 0
    for part in ("train", "eval"):
        assert report[part]["ratio"] == report[part]["tokens_before"] / report[part]["tokens_after"]
    assert set(report["h2_nats"]) == {"before", "after"}
    assert report["seconds"]["mine"] > 0
    assert len(json.loads((files / "out" / "enriched.json").read_text())["ngrams"]) == 4


def test_automatic_budget_shows_its_curve(files):
    result = run(files, "--eval", str(files / "dev.jsonl"))
    assert result.exit_code == 0, result.output
    assert "expected decoding cost" in result.stdout
    assert "n-grams added" in result.stdout


def test_added_tokens_style_warns_of_changed_prompts(files):
    rows = [json.loads(line) for line in (files / "train.jsonl").read_text().splitlines()]
    for row in rows:
        row["prompt"] = f"what does '{row['completion']}' mean"
    (files / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(files, "--budget", "8", "--style", "added-tokens", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["prompt_drift"] > 0
    assert "tokenised differently" in result.stderr


def test_without_held_out_rows_a_tenth_of_the_data_chooses_the_budget(files):
    row = '{{"prompt": "p{0}", "completion": "intent: play_music, slot fills: {{artist: band {1}}}"}}\n'
    (files / "train.jsonl").write_text("".join(row.format(k, k % 5) for k in range(600)))
    result = run(files, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["added"] > 0
    assert report["budget"]["curve"]
    shares = [report[part]["tokens_before"] for part in ("train", "eval")]
    assert 0.05 < shares[1] / sum(shares) < 0.15


def test_no_ngrams_are_said(files):
    rows = [{"prompt": f"p{k}", "completion": "ab"[k % 2]} for k in range(60)]
    (files / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(files, "--budget", "5")
    assert result.exit_code == 0, result.output
    assert "no n-gram was added" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--budget", "many"], "--budget must be a number"),
        (["--limit", "30"], "too few rows to hold out 20 that choose a budget; pass --eval"),
        (["--budget", "5", "--pcs", "high"], "--pcs must be a threshold"),
        (["--budget", "5", "--method", "magic"], "'paper' or 'best'"),
        (["--budget", "5", "--style", "magic"], "style must be"),
    ],
)
def test_wrong_options_are_one_line(files, options, reason):
    result = run(files, *options)
    assert result.exit_code == 1
    assert reason in result.stderr
    assert "Traceback" not in result.output
    assert not (files / "out").exists()
