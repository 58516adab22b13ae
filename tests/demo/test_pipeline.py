import json
import re
from dataclasses import replace

import numpy as np
import pytest

from chromium import check_page
from tasc.corpus import load_tasks
from tasc.decode.profile import profile
from tasc.demo import QUICK, Scale, run_demo
from tasc.draft import Drafter
from tasc.draft.cost import StepCost
from tasc.draft.recorded import read_log
from tasc.errors import OptionError
from tasc.evals import read_predictions
from tasc.report import read_run

TINY = Scale(
    train_rows=96, validation_rows=8, test_rows=12, budget=20, steps=2, batch_size=8, timed={8: (8, 2), 1: (2, 2)}
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A demo in which a longer pass costs nothing: with measured times, whether drafts pay depends on the machine's load."""
    out = tmp_path_factory.mktemp("demo") / "run"
    notes = []

    def flat(model):
        return replace(measured := profile(model), ms=np.full_like(measured.ms, 1.0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasc.decode.profile.profile", flat)
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
def test_the_report_loads_nothing_and_shows_the_run(finished):
    out, _, _ = finished
    text = (out / "report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 3_000_000
    assert not re.search(r"""(?:src|href)=["']?https?:""", text)
    for section in ("Quality and speed", "What the outputs look like", "How many n-grams", "Where the time went"):
        assert f"<h2>{section}</h2>" in text
    run = read_run(out)
    assert [system.name for system in run.systems] == ["baseline", "enriched", "drafts", "enriched + drafts"]
    assert all(len(system.passes) == TINY.test_rows for system in run.systems)
    assert [point.budget for point in run.budgets.points] == [0, 3, 7, 10, 13, 20, 33]
    assert {walk.system for walk in run.walks} == {"drafts", "enriched + drafts"}


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_fits_the_window_and_can_be_read(finished, browser, width, dark):
    parts = "table, figure, .card, .steps, .sample, .ngrams li, .facts"
    check_page(browser, finished[0] / "report.html", width=width, dark=dark, parts=parts)


@pytest.mark.slow
def test_generations_step_by_step_end_in_what_was_written(finished):
    out, _, _ = finished
    for system, name in (("drafts", "drafts"), ("enriched + drafts", "enriched-drafts")):
        written = {row.prompt: row for row in read_predictions(out / f"outputs-{name}.jsonl")}
        walks = [walk for walk in read_run(out).walks if walk.system == system]
        assert walks
        for walk in walks:
            row = next(row for prompt, row in written.items() if prompt in walk.prompt)
            assert len(walk.steps) == row.passes
            last = walk.steps[-1]
            text = last.before + "".join(one.text for one in last.drafted if one.accepted) + (last.own or "")
            assert text.startswith(row.completion)


@pytest.mark.slow
def test_the_time_of_a_system_has_its_parts(finished):
    _, report, _ = finished
    for row, quality in zip(report.to_json()["systems"], report.quality, strict=True):
        parts = row["time"]
        assert parts["prefill_ms"] > 0
        assert (parts["drafting_ms"] > 0) is (row["drafts"] is not None)
        done = quality.completions.generated
        whole = parts["prefill_ms"] + parts["drafting_ms"] + parts["other_passes_ms"]
        assert whole == pytest.approx(sum(done.ms) / len(done.ms))


@pytest.mark.slow
def test_the_log_holds_each_test_row_once(finished):
    out, _, _ = finished
    for name in ("drafts", "enriched-drafts"):
        assert len(read_log(out / f"requests-{name}.jsonl").requests) == TINY.test_rows


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
