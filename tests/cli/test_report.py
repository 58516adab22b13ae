"""`tasc report` on the command line, and the figures that other verbs draw."""

import json
import xml.etree.ElementTree as ET

import pytest
from typer.testing import CliRunner

import tiny
from tasc.cli import main
from tasc.corpus import Row, load_tokenizer
from tasc.draft import build_drafter
from tiny_models import tiny_model

EVAL = {"model": "run", "metric": "text", "n": 9, "quality": {"f": 0.5}, "intervals": {"f": [0.4, 0.6]}}


def tasc(*words):
    return CliRunner().invoke(main.app, [str(word) for word in words], env={"TASC_DEBUG": None})


@pytest.fixture
def document(tmp_path):
    (tmp_path / "found.json").write_text(json.dumps(EVAL))
    return tmp_path / "found.json"


def test_it_writes_the_page_and_says_where(document, tmp_path):
    out = tmp_path / "sub" / "report.html"
    result = tasc("report", document, "-o", out)
    assert result.exit_code == 0, result.stderr
    assert "report.html: found.json" in "".join(result.stdout.split("\n"))
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_json_is_what_the_page_shows(document, tmp_path):
    out = tmp_path / "report.html"
    result = tasc("report", document, document, "-o", out, "--title", "Both", "--json")
    report = json.loads(result.stdout)
    assert (report["written"], report["title"], report["bytes"]) == (str(out), "Both", out.stat().st_size)
    assert [run["systems"][0]["quality"][0]["estimate"]["low"] for run in report["runs"]] == [0.4, 0.4]


def test_what_is_no_run_is_one_line_and_exit_code_1(tmp_path):
    out = tmp_path / "report.html"
    result = tasc("report", tmp_path, "-o", out)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {tmp_path}: no run folder; pass the run folder of")
    assert result.stderr.count("\n") == 1
    assert not out.exists()
    assert tasc("report").exit_code == 2


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A folder with tok/, train.jsonl, dev.jsonl and task.tasc."""
    folder = tmp_path_factory.mktemp("plots")
    tiny.byte_level_bpe().save_pretrained(folder / "tok")
    for name, first, n in (("train", 0, 150), ("dev", 1000, 130)):
        made = [
            {"prompt": f"play {k}", "completion": f"intent: play_music, slot fills: {{artist: band {k * 7 % 31}}}"}
            for k in range(first, first + n)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))
        if name == "train":
            rows = [Row(row["prompt"], row["completion"]) for row in made]
            build_drafter(rows, load_tokenizer(folder / "tok"), template="none").save(folder / "task.tasc")
    return folder


def words_of(path):
    root = ET.parse(path).getroot()
    assert root.tag.endswith("svg")
    return {"".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")}


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("analyze", {"length (base tokens)", "tokens per held-out output", "budget M (n-grams added)"}),
        ("enrich", {"decoding steps per output", "expected time (% of plain)", "budget M (n-grams added)"}),
        ("enrich 5", {"tokens saved (% of training outputs)", "n-grams, the most useful first"}),
        ("tune", {"speed-up (times as fast as plain)", "longest draft (tokens)", "tuned", "as it was"}),
    ],
)
def test_verbs_draw_the_figures_that_belong_to_them(task, tmp_path, verb, words):
    plot = tmp_path / "figure.svg"
    train, dev = ("--tokenizer", task / "tok"), ("--eval", task / "dev.jsonl")
    arguments = {
        "analyze": ("analyze", task / "train.jsonl", *train, *dev),
        "enrich": ("enrich", task / "train.jsonl", *train, *dev, "-o", tmp_path / "vocab"),
        "enrich 5": ("enrich", task / "train.jsonl", *train, "--budget", 5, "-o", tmp_path / "vocab"),
        "tune": ("tune", "--drafter", task / "task.tasc", *train, "--data", task / "dev.jsonl", "--dry-run"),
    }[verb]
    result = tasc(*arguments, "--plot", plot)
    assert result.exit_code == 0, result.stderr
    assert words <= words_of(plot)
    assert f"figure: {plot}" in result.stderr
    first = plot.read_text()
    if verb != "tune":  # times of its drafter are measured
        assert tasc(*arguments, "--plot", plot).exit_code == 0
        assert plot.read_text() == first


def test_a_figure_of_another_kind_is_refused_before_the_work(task, tmp_path):
    result = tasc("analyze", task / "train.jsonl", "--tokenizer", task / "tok", "--plot", tmp_path / "figure.png")
    assert result.exit_code == 2
    assert "ends in .svg" in " ".join(result.stderr.replace("│", " ").split())


def test_a_file_that_is_read_is_not_written(tmp_path):
    log = tmp_path / "run.jsonl"
    log.write_text("{}")
    result = tasc("report", log, "-o", log)
    assert result.exit_code == 2
    assert "is read, and would be" in " ".join(result.stderr.replace("│", " ").split())
    assert log.read_text() == "{}"


@pytest.fixture(scope="module")
def generated(task, tmp_path_factory):
    """A folder with what `tasc draft build` and `tasc generate` write for a model of one's own."""
    folder, model = tmp_path_factory.mktemp("generated"), tmp_path_factory.mktemp("model")
    tokenizer = load_tokenizer(task / "tok")
    tiny_model("llama", rows=len(tokenizer), initializer_range=0.5).save_pretrained(model)
    tokenizer.save_pretrained(model)
    run(*("draft", "build", task / "train.jsonl", "--tokenizer", model, "-o", folder / "task.tasc"))
    written = ("--record", folder / "run.log", "-o", folder / "answers.jsonl", "--max-new-tokens", 24)
    run(
        "generate",
        "--model",
        model,
        "--drafter",
        folder / "task.tasc",
        "--data",
        task / "dev.jsonl",
        "--limit",
        20,
        *written,
    )
    return folder


def run(*words):
    result = tasc(*words)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_a_run_of_ones_own_is_shown_pass_by_pass(generated, tmp_path):
    out = tmp_path / "report.html"
    folder = json.loads(run("report", generated, "-o", out, "--json"))["runs"][0]
    assert [system["name"] for system in folder["systems"]] == ["run.log"]  # one run: its log and its outputs
    assert folder["walks"]
    assert folder["drafts"][0]["by_source"]
    drafter = ("--drafter", generated / "task.tasc")
    log = json.loads(run("report", generated / "run.log", *drafter, "-o", out, "--json"))["runs"][0]
    assert (log["walks"], log["drafts"], log["systems"]) == (folder["walks"], folder["drafts"], folder["systems"])
    assert "<h2>Step by step</h2>" in out.read_text(encoding="utf-8")


def test_a_drafter_of_another_task_is_one_line_on_the_page_and_a_foreign_one_an_error(generated, task, tmp_path):
    out = tmp_path / "report.html"
    tiny.byte_level_bpe(vocab_size=300).save_pretrained(tmp_path / "tok")
    build = ("draft", "build", task / "train.jsonl", "-o", tmp_path / "other.tasc", "--tokenizer")
    run(*build, tmp_path / "tok")
    result = tasc("report", generated / "run.log", "--drafter", tmp_path / "other.tasc", "-o", out)
    assert result.exit_code == 1
    assert "pass the drafter of that run" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not out.exists()
    header, _, requests = (generated / "run.log").read_text().partition("\n")
    (tmp_path / "enriched.log").write_text(json.dumps(json.loads(header) | {"ngrams": "d1"}) + "\n" + requests)
    result = tasc("report", tmp_path / "enriched.log", "--drafter", generated / "task.tasc", "-o", out)
    assert result.exit_code == 1
    assert "recorded with n-grams d1, the drafter has none; pass the drafter of that run" in result.stderr
    assert not out.exists()
    run(*build, task / "tok", "--preset", "paper")
    found = json.loads(run("report", generated / "run.log", "--drafter", tmp_path / "other.tasc", "-o", out, "--json"))
    assert found["runs"][0]["walks"] == []
    assert "does not make the drafts of run.log" in found["runs"][0]["verdict"][1]
