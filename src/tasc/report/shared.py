"""What the readers of run folders and documents share with the commands that write and draw them."""

from collections.abc import Mapping
from typing import Any

from tasc.report.data import BudgetPoint, Estimate, Tried

# of the demo, in the order of its table; the last is the headline
METRICS = {"intent_accuracy": "intent accuracy", "slot_f1": "slot F1", "joint_accuracy": "joint accuracy"}
MODELS = ("baseline", "enriched")  # folders of `tasc train`, and names of the systems without drafts
NORMAL_95 = 1.96


def file_name(system: str) -> str:
    """A system's name as part of a file's name.

    >>> file_name("enriched + drafts")
    'enriched-drafts'
    """
    return system.replace(" + ", "-")


def budget_point(point: Mapping[str, Any]) -> BudgetPoint:
    """A point of the curve of `tasc enrich`."""
    steps, spread = point["expected_steps"], NORMAL_95 * point.get("expected_steps_se", 0.0)
    return BudgetPoint(point["budget"], Estimate(steps, steps - spread, steps + spread), point["relative_cost"])


def tried_of(tried: Any) -> tuple[Tried, ...]:
    """The candidates of `tasc tune`, named by everything but the length of drafts."""
    return tuple(
        Tried(
            ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in one.items() if k not in ("max_draft", "ms_per_output")),
            one["max_draft"],
            one["ms_per_output"],
        )
        for one in tried
    )
