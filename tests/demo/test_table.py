from io import StringIO

import pytest
from rich.console import Console

from tasc.demo.table import NOT_COMPARABLE, render
from tasc.report.verdict import QUICK


def row(
    name: str, *, joint: float, ms: float, speed_up: float, comparable: bool = True, changed: int | None = None
) -> dict:
    return {
        "outputs_changed_by_drafts": changed,
        "system": name,
        "comparable": comparable,
        "quality": {"intent_accuracy": 0.97, "slot_f1": 0.95, "joint_accuracy": joint},
        "intervals": {key: [0.9, 0.99] for key in ("intent_accuracy", "slot_f1", "joint_accuracy")},
        "headline_difference": {"value": joint - 0.9, "low": -0.02, "high": 0.03, "p": 0.4},
        "tokens_per_output": 21.4,
        "passes_per_output": 22.4,
        "speed": [
            {
                "batch_size": 8,
                "ms_per_output": ms,
                "ms_per_output_rounds": [ms - 1, ms, ms + 2],
                "speed_up": speed_up,
                "speed_up_range": [speed_up - 0.1, speed_up + 0.1],
            }
        ],
    }


def shown(*, quick: bool = False, comparable: bool = True, changed: int = 0, width: int = 200) -> str:
    systems = [
        row("baseline", joint=0.9, ms=20, speed_up=1),
        row("enriched", joint=0.91, ms=8, speed_up=2.5, comparable=comparable),
        row("drafts", joint=0.9, ms=5, speed_up=4, changed=changed),
        row("enriched + drafts", joint=0.91, ms=4, speed_up=5, comparable=comparable, changed=0),
    ]
    written = StringIO()
    console = Console(file=written, width=width)
    console.print(render({"systems": systems, "quick": quick, "scale": {"test_rows": 1000}}))
    return written.getvalue()


def test_the_table_has_quality_tokens_times_and_speed_up():
    text = shown()
    for part in (
        "1,000 held-out requests",
        "0.910 [0.900, 0.990]",
        "22.4",
        "8.0",
        "2.50x [2.4-2.6]",
        "4.00x [3.9-4.1]",
        "5.00x [4.9-5.1]",
        "+0.010 (95% interval -0.020 to +0.030",
        "Drafts changed no output.",
    ):
        assert part in text
    assert text.count("0.910 [0.900, 0.990]") == 1  # quality belongs to the model, drafts do not change it
    assert QUICK not in text
    assert NOT_COMPARABLE not in text


def test_a_quick_run_says_that_it_means_nothing():
    assert QUICK in shown(quick=True)


@pytest.mark.parametrize("quick", [True, False])
def test_no_speed_up_of_malformed_outputs(quick):
    text = shown(quick=quick, comparable=False)
    assert "2.50x" not in text
    assert NOT_COMPARABLE in text


def test_outputs_that_drafts_changed_are_told():
    text = shown(changed=3)
    assert "drafts: 3 outputs differ" in text
    assert "Drafts changed no output." not in text


def test_nothing_is_cut_in_a_terminal_of_80_columns():
    text = shown(width=80)
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "2.50x [2.4-2.6]" in text
