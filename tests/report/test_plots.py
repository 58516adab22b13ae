"""Figures: the same text each time, text as text, readable on any page."""

import re
import xml.etree.ElementTree as ET
from collections import defaultdict

import pytest

from report_runs import estimate, full_run
from tasc.report import charts, plots
from tasc.report.data import Acceptance, Estimate, Training

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return ["".join(node.itertext()) for node in ET.fromstring(svg).iter(f"{SVG}text")]


def test_the_same_values_give_the_same_figure_without_date_and_addresses():
    run = full_run()
    first, second = (charts.lengths(run.systems) for _ in range(2))
    assert first == second
    assert "<metadata>" not in first
    assert "matplotlib.org" not in first


def test_text_stays_text_whatever_it_is(recwarn):
    name = "a$x_1$ <b>&</b> 東京"
    svg = charts.speed_ups([(name, 1, estimate(2.0))])
    assert name in texts(svg)
    assert "<b>" not in svg
    assert list(recwarn) == []


def test_long_names_are_cut_on_an_axis():
    svg = charts.quality([("x" * 60, estimate(0.5)), ("y", estimate(0.4))], "joint accuracy")
    assert f"{'x' * 21}..." in texts(svg)


def test_runs_and_systems_stay_apart_when_compared():
    """Default names of runs differ at their ends."""
    runs = [f"demo-20260101-12000{k}" for k in range(8)]
    rows = [(run, system, estimate(2.0), estimate(0.5)) for run in runs for system in ("baseline", "enriched + drafts")]
    svg = charts.trade_off(rows[:4], "joint accuracy", 1)
    assert {*runs[:2], "baseline", "enriched + drafts"} <= set(texts(svg))
    assert all(svg.count(f"stroke: {colour}") for colour in plots.COLOURS[:2])
    looks = defaultdict(set)  # all points stand at one place
    many = charts.trade_off(rows, "joint accuracy", 1)
    for marker, x, y, style in re.findall(r'<use xlink:href="#(\w+)" x="([\d.]+)" y="([\d.]+)" style="([^"]+)"', many):
        looks[x, y].add((marker, style))
    assert max(map(len, looks.values())) == len(rows)
    long = charts.trade_off([("x" * 255, "_a", estimate(2.0), estimate(0.5)), *rows], "joint accuracy", 1)
    assert {"x" * charts.LEGEND_LINE, "_a"} <= set(texts(long))


def test_units_stand_on_every_axis():
    run = full_run()
    for svg, labels in (
        (charts.budgets(run.budgets, [("m", 300, 5.0)]), ("budget M (n-grams added)", "decoding steps per output")),
        (charts.time_shares(run.systems), ("time per output (ms) at batch 8",)),
        (
            charts.acceptance_by_position(run.drafts),
            ("place in the draft (tokens)", "a token accepted (% of the passes)"),
        ),
        (charts.tried(run.tried), ("longest draft (tokens)", "time per output by the curve (ms)")),
        (charts.training(run.training, evaluations=True), ("optimizer steps", "validation loss (nats per byte)")),
    ):
        assert set(labels) <= set(texts(svg))


def test_an_interval_is_drawn_where_it_is_known():
    def width(one):
        svg = charts.quality([("a", one), ("b", estimate(0.4, 0.4))], "accuracy")  # b makes the axis the same for all
        low, high = re.search(r'id="LineCollection_1">\s*<path d="M ([\d.]+) [\d.]+\s+L ([\d.]+)', svg).groups()
        return float(high) - float(low)

    wide, narrow, none = (width(one) for one in (estimate(0.5, 0.2), estimate(0.5, 0.1), Estimate(0.5)))
    assert wide == pytest.approx(2 * narrow)
    assert narrow > 5
    assert none == 0


def test_inlined_figures_share_no_ids_and_take_the_colour_of_the_page():
    svg = charts.acceptance_by_source([Acceptance.of("corpus", 100, 80)])
    assert plots.INK in svg
    a, b = (plots.inline(svg, prefix=prefix, label='80% of "corpus" \\ <all>') for prefix in ("a1", "b2"))
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (a, b)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert plots.INK not in a
    assert "currentColor" in a
    for text, of_text in zip((a, b), ids, strict=True):
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', text)) <= of_text
        assert text.startswith('<svg role="img" aria-label="80% of &quot;corpus&quot; \\ &lt;all&gt;"')
        assert ET.fromstring(text.replace("xlink:href", "href")).get("width") is None


def test_one_step_and_equal_values_can_be_drawn():
    assert texts(charts.training([Training("one", ((1, 0.0),), ())], evaluations=False))
    assert texts(charts.acceptance_by_source([Acceptance.of("corpus", 3, 0)]))
