"""`tasc generate` and `tasc eval` as people call them, on a tiny run folder; stdout, files, exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import tiny
from tasc.cli import main
from tasc.corpus import fingerprint
from tasc.evals import Prediction, read_predictions, write_predictions
from tasc.vocab.tokenizer import write_tokenizer
from tasc.vocab.vocabulary import EnrichedVocabulary, Ngram
from tiny_models import tiny_model

FRAMES = ["intent: alarm_set, slot fills: {time: seven am}", "intent: lights_off, slot fills: {place: hall, time: now}"]
SPEED_KEYS = ("tokens_per_output", "passes_per_output", "ms_per_output", "ms_per_byte", "adoption")


def tasc(*args: Any, code: int = 0) -> Any:
    result = CliRunner().invoke(main.app, [str(arg) for arg in args], env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "test.jsonl"
    rows = [{"prompt": f"row {i}" + " and more" * i, "completion": FRAMES[i % 2]} for i in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    tokenizer = tiny.byte_level_bpe()
    ids = tokenizer("intent: alarm_set", add_special_tokens=False)["input_ids"]
    ngram = Ngram((ids[0], ids[1]), (ids[0], ids[1]))
    vocabulary = EnrichedVocabulary(len(tokenizer), (ngram,), fingerprint=fingerprint(tokenizer))
    tiny_model("llama", rows=vocabulary.size, initializer_range=0.5).save_pretrained(folder)
    write_tokenizer(tokenizer, vocabulary, folder)
    return folder


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three right outputs, one wrong intent, one malformed."""
    path = tmp_path_factory.mktemp("outputs") / "out.jsonl"
    texts = [FRAMES[0], FRAMES[1], FRAMES[0].replace("alarm_set", "alarm_query"), FRAMES[1], "nothing"]
    write_predictions(path, [Prediction(f"p{i}", text, FRAMES[i % 2], 10, 4, 2.0) for i, text in enumerate(texts)])
    return path


def test_generate(run_folder, data, tmp_path):
    out = tmp_path / "new" / "out.jsonl"
    result = tasc(
        "generate", "--model", run_folder, "--data", data, "-o", out, "-b", 2, "--max-new-tokens", 7, "--json"
    )
    report = json.loads(result.stdout)
    rows = read_predictions(out)
    assert [row.reference for row in rows] == [FRAMES[i % 2] for i in range(5)]
    assert set(json.loads(out.read_text().splitlines()[0])) == {
        "prompt", "completion", "reference", "tokens", "passes", "ms"
    }  # fmt: skip
    assert all(1 <= (row.passes or 0) <= 7 and (row.ms or 0) > 0 for row in rows)
    assert report["passes_per_output"] == sum(row.passes or 0 for row in rows) / 5
    assert report["tokens_per_output"] == sum(row.tokens or 0 for row in rows) / 5
    assert (report["n"], report["batch_size"], report["max_new_tokens"]) == (5, 2, 7)
    assert set(SPEED_KEYS) <= set(report)
    assert [path.name for path in out.parent.iterdir()] == ["out.jsonl"]


def test_eval_of_a_model(run_folder, data, tmp_path):
    out = tmp_path / "out.jsonl"
    common = ["--data", data, "--metric", "intent-slots", "--json"]
    result = tasc("eval", "--model", run_folder, "--batch-size", 3, "--limit", 4, "--output", out, *common)
    report = json.loads(result.stdout)
    assert set(SPEED_KEYS) | {"quality", "intervals"} <= set(report)
    assert report["n"] == 4
    assert report["quality"]["malformed"] == 1.0, "a random model"
    # the file it wrote scores the same, with and without the data
    for options in (common[2:], ["--limit", 4, *common]):
        again = json.loads(tasc("eval", "--predictions", out, *options).stdout)
        assert again["quality"] == report["quality"]
        assert again["passes_per_output"] == report["passes_per_output"]


def test_eval_of_a_file(outputs):
    report = json.loads(tasc("eval", "--predictions", outputs, "--metric", "intent-slots", "--json").stdout)
    assert report["quality"] == {
        "intent_accuracy": 0.6,
        "slot_f1": pytest.approx(2 * 6 / (6 + 7)),
        "joint_accuracy": 0.6,
        "slot_precision": 1.0,
        "slot_recall": pytest.approx(6 / 7),
        "malformed": 0.2,
    }
    low, high = report["intervals"]["intent_accuracy"]
    assert low < 0.6 < high
    assert (report["ms_per_output"], report["passes_per_output"], report["adoption"]) == (2.0, 4.0, None)


def test_a_file_without_references_is_no_score(outputs, tmp_path):
    rows = read_predictions(outputs)
    part = tmp_path / "part.jsonl"
    write_predictions(
        part, [Prediction(row.prompt, row.completion, "" if k < 2 else row.reference) for k, row in enumerate(rows)]
    )
    result = tasc("eval", "--predictions", part, "--metric", "exact", code=1)
    assert f"2 of {len(rows)} rows have no reference; pass them with --data" in " ".join(result.stderr.split())


def test_eval_for_people(outputs):
    shown = tasc("eval", "--predictions", outputs, "--metric", "exact").stdout
    assert "exact_match" in shown
    assert "0.6000" in shown
    assert "target passes per output" in shown
    assert "{" not in shown


def test_differences_to_another_model(outputs, tmp_path):
    perfect = tmp_path / "perfect.jsonl"
    rows = read_predictions(outputs)
    write_predictions(perfect, [Prediction(row.prompt, row.reference, row.reference) for row in rows])
    result = tasc("eval", "--predictions", perfect, "--against", outputs, "--metric", "exact", "--json")
    report = json.loads(result.stdout)
    assert report["against"]["exact_match"] == 0.6
    assert report["differences"]["exact_match"]["value"] == pytest.approx(0.4)
    assert report["differences"]["exact_match"]["low"] >= 0
    assert report["tokens_per_output"] is None
    shown = tasc("eval", "--predictions", perfect, "--against", outputs, "--metric", "exact").stdout
    assert "+0.4000 (" in shown


def test_judged(outputs, tmp_path, monkeypatch):
    """Only the command's part: what is asked of the judge and how its verdicts are shown."""
    monkeypatch.setattr(
        "tasc.evals._chat.ChatEndpoint.complete",
        lambda self, body: json.dumps({"A": 3, "B": 3} if "CANDIDATE B" in str(body) else {"A": 3}),
    )
    options = ["--judge-url", "http://localhost/v1", "--judge-model", "grader", "--judge-file", tmp_path / "v.jsonl"]
    common = ["eval", "--predictions", outputs, "--metric", "exact", *options]
    report = json.loads(tasc(*common, "--json").stdout)
    assert report["judge"]["scores"] == {"model": {"mean": 3.0, "interval": [3.0, 3.0]}}
    assert report["judge"]["unreadable"] == 0.0
    both = json.loads(tasc(*common, "--against", outputs, "--json").stdout)
    assert set(both["judge"]["scores"]) == {"model", "against"}
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 10
    assert "judge (1-4): model" in tasc(*common).stdout


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--metric", "exact"], "pass either --model"),
        (["--metric", "exact", "--model", "m"], "--model needs --data"),
        (["--metric", "exact", "--model", "m", "--predictions", "p", "--data", "d"], "pass either --model"),
        (["--metric", "exact", "--predictions", "p", "--output", "o"], "--output needs --model"),
        (["--metric", "exact", "--predictions", "p", "--judge-url", "http://x"], "needs both"),
        (["--metric", "bleu", "--predictions", "p"], "bleu"),
        (["--predictions", "p"], "--metric"),
        (["--metric", "exact", "--model", "m", "--data", "d", "--batch-size", "0"], "batch-size"),
    ],
)
def test_wrong_usage(args, says):
    assert says in tasc("eval", *args, code=2).output


def test_a_file_that_is_read_is_not_written(data):
    before = Path(data).read_bytes()
    for args in (
        ["--model", "m", "--data", data, "-o", data],
        ["--model", "m", "--data", "d", "--against", data, "-o", data],
    ):
        said = tasc("eval", "--metric", "exact", *args, code=2).output
        assert "is read, and would be" in " ".join(said.replace("│", " ").split())
    assert Path(data).read_bytes() == before


def refused(*args):
    return " ".join(tasc(*args, code=2).output.replace("│", " ").split())


@pytest.mark.parametrize("name", ["test.jsonl", "data/validation-00000-of-00001.jsonl", "odd.jsonl"])
def test_a_split_of_the_folder_that_is_read_is_not_written(data, tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(Path(data).read_bytes())
    split = "odd" if name == "odd.jsonl" else "test"
    said = refused("generate", "--model", "m", "--data", tmp_path, "--split", split, "-o", path)
    assert "is read, and would be" in said
    said = refused("eval", "--metric", "exact", "--model", "m", "--data", tmp_path, "--split", split, "-o", path)
    assert "is read, and would be" in said
    assert path.read_bytes() == Path(data).read_bytes()


def test_files_of_the_model_that_is_read_are_not_written(run_folder, data):
    for name in (
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "enriched.json",
        "base_tokenizer/tokenizer.json",
    ):
        path = run_folder / name
        before = path.read_bytes()
        for words in (
            ["generate", "--model", run_folder, "--data", data],
            ["eval", "--model", run_folder, "--data", data, "--metric", "exact"],
            ["draft", "build", data, "--tokenizer", run_folder],
            ["profile", "--model", run_folder],
            ["export", "gguf", run_folder],
        ):
            assert "is read, and would be" in refused(*words, "-o", path)
        assert path.read_bytes() == before


def test_a_column_of_chats_by_another_name(run_folder, tmp_path):
    turns = [{"role": "user", "content": "wake me"}, {"role": "assistant", "content": FRAMES[0]}]
    path, out = tmp_path / "chats.jsonl", tmp_path / "out.jsonl"
    path.write_text(json.dumps({"turns": turns}) + "\n")
    options = ["--messages-column", "turns", "--template", "plain", "--max-new-tokens", 3]
    tasc("generate", "--model", run_folder, "--data", path, "--output", out, *options)
    assert read_predictions(out)[0].reference == FRAMES[0]
    tasc("eval", "--model", run_folder, "--data", path, "--metric", "exact", *options)


def test_prompts_alone_are_answered(run_folder, tmp_path):
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "wake me"}\n')
    out = tmp_path / "out.jsonl"
    tasc("generate", "--model", run_folder, "--data", tmp_path / "prompts.jsonl", "-o", out)
    [row] = read_predictions(out)
    assert (row.prompt, row.reference) == ("wake me", "")
    assert row.completion


def test_another_file_in_the_folder_that_is_read_is_written(data, tmp_path, run_folder):
    (tmp_path / "test.jsonl").write_bytes(Path(data).read_bytes())
    out = tmp_path / "out.jsonl"
    out.write_text("of the last run")
    args = ["--model", run_folder, "--data", tmp_path, "--split", "test", "--max-new-tokens", 2, "-o", out]
    tasc("generate", *args)
    assert len(read_predictions(out)) == 5


def test_two_outputs_are_two_files(data, tmp_path):
    out = tmp_path / "new.jsonl"
    args = ["--metric", "exact", "--model", "m", "--data", data, "-o", out, "--judge-file", out]
    assert "--output and --judge-file both write" in refused("eval", *args)
    args = ["--model", "m", "--drafter", "task.tasc", "--data", data, "-o", out, "--record", out]
    assert "--output and --record both write" in refused("generate", *args)


def test_errors_are_one_line(outputs, data, tmp_path):
    for args in (
        ["--predictions", tmp_path / "none.jsonl"],
        ["--predictions", outputs, "--data", data],
        ["--predictions", outputs, "--against", data],
        ["--model", tmp_path, "--data", data],
        ["--predictions", outputs, "--labels", "labels.json"],
    ):
        result = tasc("eval", "--metric", "exact", *args, code=1)
        assert result.stderr.startswith("error: ")
        assert len(result.stderr.splitlines()) == 1
        assert result.stdout == ""


def test_what_does_not_fit_is_said_before_the_model_is_run(run_folder, data, outputs, tmp_path, monkeypatch):
    monkeypatch.setattr("tasc.decode.timing.generate", lambda *_, **__: pytest.fail("the model was run"))
    write_predictions(tmp_path / "short.jsonl", read_predictions(outputs)[:2])
    for against, says in ((tmp_path / "none.jsonl", "No such file"), (tmp_path / "short.jsonl", "has 2 rows")):
        args = ["--model", run_folder, "--data", data, "--against", against]
        assert says in tasc("eval", "--metric", "exact", *args, code=1).stderr


def test_an_interrupted_generate_leaves_no_file(run_folder, data, tmp_path, monkeypatch):
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tasc.decode.timing.generate", interrupt)
    tasc("generate", "--model", run_folder, "--data", data, "-o", tmp_path / "out.jsonl", code=130)
    assert list(tmp_path.iterdir()) == []
