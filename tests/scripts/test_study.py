"""The study in benchmarks/: what it concludes from measurements, and that pages say what their JSON says."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow  # imports torch and transformers


@pytest.fixture(autouse=True)
def _benchmarks_first(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])


def configuration(ms, h2, steps):
    runs = [
        {"budget": 100 * k, "ms_per_output": t, "h2_nats": h, "steps": s, "expected_steps": s}
        for k, (t, h, s) in enumerate(zip(ms, h2, steps, strict=True))
    ]
    return {"runs": runs, "step_ms": [8.0] * len(runs)}


def test_predictors_that_order_every_runtime_get_full_marks():
    prediction = importlib.import_module("study.prediction")
    found = prediction.summary([configuration([8.0, 4.0, 2.0], [1.0, 2.0, 3.0], [8.0, 4.0, 2.0])])
    for summary in found.values():
        assert summary["mean_tau"] == summary["mean_tau_enriched"] == pytest.approx(1)
        assert (summary["directions"]["right"], summary["directions"]["of"]) == (2, 2)
    assert found["expected_ms"]["highest_error"] == pytest.approx(0)


def test_h2_that_falls_while_outputs_get_faster_is_counted_as_wrong():
    prediction = importlib.import_module("study.prediction")
    found = prediction.summary([configuration([8.0, 4.0, 2.0], [1.0, 3.0, 2.0], [8.0, 4.0, 3.0])])
    assert found["h2_nats"]["mean_tau"] == pytest.approx(1 / 3)
    assert found["h2_nats"]["mean_tau_enriched"] == pytest.approx(-1)
    assert found["h2_nats"]["directions"]["right"] == 1
    assert found["expected_ms"]["highest_error"] == pytest.approx(0.5)  # 3/8 promised, 2/8 measured


def test_steps_within_the_noise_are_left_out_of_the_clear_directions():
    prediction = importlib.import_module("study.prediction")
    found = prediction.summary([configuration([8.0, 4.0, 4.01], [1.0, 2.0, 3.0], [8.0, 4.0, 3.9])])
    assert (found["h2_nats"]["directions"]["right"], found["h2_nats"]["directions"]["of"]) == (1, 2)
    assert (found["h2_nats"]["clear_directions"]["right"], found["h2_nats"]["clear_directions"]["of"]) == (1, 1)


def test_raw_values_of_a_measurement_that_was_given_up_give_the_taus_that_the_page_shows():
    prediction = importlib.import_module("study.prediction")
    shown = json.loads((prediction.RESULTS / "prediction.json").read_text(encoding="utf-8"))["given_up"]
    kept = [one for one in shown if one["raw"]]
    assert kept
    for one in kept:
        configurations = json.loads((prediction.RESULTS / one["raw"]).read_text(encoding="utf-8"))["configurations"]
        assert len(configurations) == one["configurations"]
        found = prediction.summary(configurations)
        assert {name: found[name]["mean_tau"] for name in one["mean_tau"]} == pytest.approx(one["mean_tau"])


def test_a_predictor_that_follows_the_budget_is_told_from_one_that_does_not():
    page = importlib.import_module("study.page_prediction")
    one = {"runs": [{"budget": m, "h2_nats": h, "steps_ms": s} for m, h, s in ((0, 1, 9), (50, 3, 5), (100, 2, 4))]}
    assert page.follows_m(one, "steps_ms")
    assert not page.follows_m(one, "h2_nats")


def test_the_page_says_what_the_json_says(tmp_path):
    importlib.import_module("study.page").write(tmp_path)
    docs = ROOT / "docs"
    written = (tmp_path / "reproduction.md").read_text(encoding="utf-8")
    assert written == (docs / "reproduction.md").read_text(encoding="utf-8"), (
        "run: cd benchmarks && python -m study page"
    )
    drawn = {path.name for path in (tmp_path / "reproduction").iterdir()}
    assert drawn == {path.name for path in (docs / "reproduction").iterdir()}


def test_the_page_of_the_drafts_says_what_its_json_says(tmp_path):
    spec = importlib.import_module("tasc_spec")
    results = json.loads(spec.RESULTS.read_text(encoding="utf-8"))
    spec.write_page({corpus: results[corpus] for corpus in spec.TIMED_ROWS}, tmp_path)
    written = (tmp_path / "tasc_spec.md").read_text(encoding="utf-8")
    assert written == (ROOT / "docs" / "results" / "tasc_spec.md").read_text(encoding="utf-8"), (
        "run: python benchmarks/tasc_spec.py --page"
    )
    assert (tmp_path / "tasc_spec_positions.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_the_page_of_the_gpu_says_what_its_json_says():
    page = importlib.import_module("gpu.page")
    assert page.page() == page.PAGE.read_text(encoding="utf-8"), "run: python benchmarks/gpu/page.py"
