"""What a report finds in run folders and documents."""

import json

import pytest

from tasc.errors import DataError, OptionError
from tasc.report import read_report, read_run, render, write_report
from tasc.report.data import Estimate
from tasc.vocab import EnrichedVocabulary, Ngram

TRAIN_REPORT = {
    "out": "run",
    "steps": 3,
    "epochs": 0.5,
    "eval_nats_per_byte": 0.1234,
    "tokens_per_s": 1234.5,
    "trainable_parameters": 10,
    "parameters": 100,
    "tokens_per_output": 5.0,
    "base_tokens_per_output": 20.0,
    "rows": 96,
    "eval_rows": 12,
}
EVAL = {
    "model": "run",
    "data": "test.jsonl",
    "metric": "text",
    "n": 50,
    "quality": {"rouge_l": 0.5},
    "intervals": {"rouge_l": [0.4, 0.6]},
    "passes_per_output": 7.0,
    "ms_per_output": 12.0,
    "batch_size": 8,
}
COMPARE = {
    "model": "run",
    "n": 20,
    "identical": True,
    "different_rows": [],
    "speedup": 2.5,
    "speedup_range": [2.4, 2.6],
    "ms_per_output": {"plain": 25.0, "speculative": 10.0},
    "passes_per_output": {"plain": 20.0, "speculative": 6.0},
    "tokens_per_pass": 3.4,
    "drafted_per_pass": 5.0,
    "acceptance_by_position": [0.9, 0.5],
    "by_position": [[100, 90], [60, 30]],
    "by_source": {"corpus": {"drafted": 160, "accepted": 120, "acceptance": 0.75}},
    "prefill_ms_per_output": {"plain": 3.0, "speculative": 3.5},
    "draft_ms_per_output": 0.5,
    "batch_size": 4,
    "device": "cpu",
}


def prediction(ms, speedup):
    interval = {"low": speedup - 0.1, "mid": speedup, "high": speedup + 0.1}
    return {"speedup": interval, "ms_per_output": ms, "passes_per_output": 5.0, "max_draft": 4}


TUNE = {
    "drafter": "task.tasc",
    "verdict": {"helps": True, "text": "Drafts will help here: twice as fast. Next: 'tasc generate' measures it."},
    "plain_ms_per_output": 20.0,
    "before": prediction(11.0, 1.8),
    "after": prediction(10.0, 2.0),
    "tried": [
        {"weights": "kept", "max_draft": 10, "ms_per_output": 11.0},
        {"weights": "learnt", "max_draft": 10, "ms_per_output": 10.5},
        {"weights": "learnt", "max_draft": 4, "ms_per_output": 10.0},
    ],
    "rows": {"held_out": 40},
    "batch_size": 1,
}


@pytest.fixture
def document(tmp_path):
    def write(found, name="found.json"):
        path = tmp_path / name
        path.write_text(json.dumps(found))
        return path

    return write


@pytest.fixture
def train_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    options = {"model": "base", "data": "train.jsonl", "method": "lora"}
    stored = {"status": "finished", "options": options, "report": TRAIN_REPORT}
    (folder / "run.json").write_text(json.dumps(stored))
    lines = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "eval_nats_per_byte": 0.2}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "lo')
    ngrams = (Ngram((1, 2), (1, 2), 5, 5, 0.0, "few"), Ngram((1, 2, 3), (1, 2, 3), 9, 18, 0.0, "many"))
    EnrichedVocabulary(10, ngrams, "fewest").save(folder)
    return folder


def test_a_train_folder_gives_curves_ngrams_and_a_verdict(train_folder):
    run = read_run(train_folder)
    assert (run.name, run.kind, run.warning) == ("run", "train", "")
    assert run.training[0].loss == ((1, 3.0), (2, 2.0))
    assert run.training[0].evaluations == ((2, 0.2),)
    assert [ngram.text for ngram in run.ngrams] == ["many", "few"]
    assert "5.0 instead of 20.0 tokens, 4.00 times fewer" in run.verdict[0]
    assert "0.1234 nats per byte" in run.verdict[1]


def test_an_unfinished_train_folder_says_so(train_folder):
    stored = json.loads((train_folder / "run.json").read_text())
    (train_folder / "run.json").write_text(json.dumps({**stored, "status": "running", "report": None}))
    run = read_run(train_folder)
    assert "not finished" in run.warning
    assert run.verdict == ()
    assert run.training[0].loss


def test_eval_gives_quality_with_its_interval(document):
    run = read_run(document(EVAL))
    assert (run.kind, run.test_rows) == ("eval", 50)
    assert run.systems[0].quality[0].estimate == Estimate(0.5, 0.4, 0.6)
    assert (run.systems[0].passes_per_output, run.systems[0].speeds[0].ms) == (7.0, 12.0)
    gap = {"value": -0.1, "low": -0.2, "high": -0.05, "p": 0.01}
    against = read_run(document({**EVAL, "differences": {"rouge_l": gap}}))
    assert "-0.100 against the other model" in against.verdict[0]
    gap = {"value": -0.1, "low": -0.2, "high": 0.05, "p": 0.3}
    assert "No difference" in read_run(document({**EVAL, "differences": {"rouge_l": gap}})).verdict[0]


def test_compare_gives_both_ways_and_where_the_time_went(document):
    run = read_run(document(COMPARE))
    plain, drafts = run.systems
    assert drafts.speeds[0].speed_up == Estimate(2.5, 2.4, 2.6)
    assert (plain.time.other_passes_ms, drafts.time.other_passes_ms) == (22.0, 6.0)
    assert [(one.drafted, one.accepted) for one in run.drafts[0].by_position] == [(100, 90), (60, 30)]
    assert "the same outputs" in run.verdict[0]
    low = read_run(
        document({**COMPARE, "speedup_range": [0.8, 0.9], "speedup": 0.85, "different_rows": [3], "identical": False})
    )
    assert "1 outputs differ" in low.verdict[0]
    assert "Decode plainly" in low.next_steps[0]


def test_shares_without_counts_have_no_interval(document):
    found = {key: value for key, value in COMPARE.items() if key != "by_position"}
    assert [one.share for one in read_run(document(found)).drafts[0].by_position] == [Estimate(0.9), Estimate(0.5)]


def test_tune_gives_the_verdict_and_the_candidates(document):
    run = read_run(document(TUNE))
    assert run.verdict == ("Drafts will help here: twice as fast.",)
    assert run.next_steps == ("'tasc generate' measures it.",)
    assert [one.name for one in run.tried] == ["weights kept", "weights learnt", "weights learnt"]
    assert run.systems[2].speeds[0].speed_up == Estimate(2.0, 1.9, 2.1)


@pytest.mark.parametrize("found", [EVAL, COMPARE, TUNE])
def test_every_document_makes_a_page(document, found):
    report = read_report([document(found)])
    assert "<h2>Quality and speed</h2>" in render(report)


def test_a_folder_that_is_no_run_is_an_error_that_says_what_would_be(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(DataError, match="no run folder; pass the run folder of 'tasc demo' or 'tasc train'"):
        read_run(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_run(tmp_path / "nothing")


def test_an_unfinished_demo_is_told_apart(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"demo": {"seed": 0}}))
    with pytest.raises(DataError, match="an unfinished demo; 'tasc demo -o"):
        read_run(tmp_path)


@pytest.mark.parametrize("found", [{}, [], 3, {"rows": 3}])
def test_another_document_is_refused(document, found):
    with pytest.raises(DataError, match=r"found.json is no document that a report can show; pass"):
        read_run(document(found))


@pytest.mark.parametrize(
    "found",
    [
        {**EVAL, "quality": 3},
        {**EVAL, "quality": {"rouge_l": "good"}},
        {**EVAL, "quality": {"rouge_l": None}},
        {**EVAL, "intervals": {"rouge_l": ["low", "high"]}},
        {**EVAL, "passes_per_output": "7"},
        {**EVAL, "ms_per_output": "fast"},
        {**EVAL, "batch_size": [8]},
        {**TUNE, "tried": [{"max_draft": "long", "ms_per_output": 1.0}]},
        {**EVAL, "intervals": {"rouge_l": [1, 2, 3]}},
        {**COMPARE, "by_source": {"corpus": {}}},
        {**COMPARE, "ms_per_output": {"plain": "fast"}},
        {**TUNE, "verdict": {}},
        {"systems": [], "scale": {}, "enriched": {}},
    ],
)
def test_a_damaged_document_is_one_error(document, found):
    with pytest.raises(DataError, match="damaged or of another version"):
        read_run(document(found))


def test_a_broken_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a.json").write_text('{"metric": ')
    with pytest.raises(DataError, match=r"a\.json: broken JSON"):
        read_run(tmp_path / "a.json")


def test_equal_names_get_their_parents_in_front(document, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "found.json").write_text(json.dumps(EVAL))
    report = read_report([tmp_path / "a" / "found.json", tmp_path / "b" / "found.json"])
    assert [run.name for run in report.runs] == ["a/found.json", "b/found.json"]
    assert report.title == "a/found.json and b/found.json"


def test_names_that_stay_equal_are_numbered(document):
    path = document(EVAL)
    names = [run.name for run in read_report([path, path]).runs]
    assert names == [f"{path.parent.name}/found.json ({n})" for n in (1, 2)]


def test_no_run_is_an_error():
    with pytest.raises(OptionError, match="at least one run"):
        read_report([])


def test_a_page_that_cannot_be_made_leaves_the_old_one(document, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("old")
    with pytest.raises(DataError):
        write_report([document({})], out)
    assert out.read_text() == "old"
    write_report([document(EVAL)], out, title="A & B")
    assert "<title>A &amp; B - TASC report</title>" in out.read_text()
