import json

import pytest

from tasc.corpus import load_tasks
from tasc.demo import QUICK, Scale, run_demo
from tasc.draft import Drafter
from tasc.draft.cost import StepCost
from tasc.errors import OptionError
from tasc.evals import read_predictions

TINY = Scale(
    train_rows=96, validation_rows=8, test_rows=12, budget=20, steps=2, batch_size=8, timed={8: (8, 2), 1: (2, 2)}
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "run"
    notes = []
    return out, run_demo(out=out, scale=TINY, quick=True, note=notes.append), notes


@pytest.mark.slow
def test_the_run_folder_has_everything(finished):
    out, report, _ = finished
    results = json.loads((out / "results.json").read_text())
    assert results == json.loads(json.dumps(report.to_json()))
    names = ["baseline", "enriched", "drafts", "enriched + drafts"]
    assert [row["system"] for row in results["systems"]] == names
    assert json.loads((out / "run.json").read_text())["demo"]["steps"] == 2
    assert len(load_tasks(out / "data", split="train")) == 96
    for name in ("baseline", "enriched"):
        assert (out / name / "config.json").is_file()
        assert Drafter.load(out / f"{name}.tasc").vocab_size >= 2048
        assert StepCost.load(out / f"cost-{name}.json").about["dtype"] == "float32"
    for name in ("baseline", "enriched", "drafts", "enriched-drafts"):
        rows = read_predictions(out / f"outputs-{name}.jsonl")
        assert [row.prompt for row in rows] == load_tasks(out / "data", split="test").prompts


@pytest.mark.slow
def test_drafts_change_no_output_and_save_passes(finished):
    _, report, _ = finished
    by_name = {s.name: q.completions for s, q in zip(report.systems, report.quality, strict=True)}
    assert report.changed == {"drafts": 0, "enriched + drafts": 0}
    for name, drafted in (("baseline", "drafts"), ("enriched", "enriched + drafts")):
        assert by_name[drafted].generated.outputs == by_name[name].generated.outputs
        assert sum(by_name[drafted].generated.passes) < sum(by_name[name].generated.passes)


@pytest.mark.slow
def test_both_models_get_the_same_steps_and_rows(finished):
    _, report, _ = finished
    baseline, enriched = report.training["baseline"], report.training["enriched"]
    assert (baseline.steps, baseline.rows) == (enriched.steps, enriched.rows) == (2, 96)
    assert enriched.tokens_per_output < baseline.tokens_per_output == baseline.base_tokens_per_output
    assert enriched.base_tokens_per_output == baseline.base_tokens_per_output


@pytest.mark.slow
def test_every_system_is_timed_at_every_batch_size(finished):
    _, report, notes = finished
    for row in report.to_json()["systems"]:
        assert [speed["batch_size"] for speed in row["speed"]] == [8, 1]
        assert all(len(speed["ms_per_output_rounds"]) == 2 for speed in row["speed"])
    assert len(notes) >= 4


@pytest.mark.slow
def test_a_finished_run_is_reused_and_another_one_refused(finished):
    out, report, _ = finished
    again = run_demo(out=out, scale=TINY, quick=True)
    assert again.training == report.training
    assert [q.completions.texts for q in again.quality] == [q.completions.texts for q in report.quality]
    with pytest.raises(OptionError, match="another run"):
        run_demo(out=out, scale=TINY, quick=True, seed=1)


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OptionError, match="not empty"):
        run_demo(out=tmp_path, scale=QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
