"""Is a task worth accelerating, and how? Measures, predictions on held-out outputs, advice."""

from tasc.analysis.advice import Recommendation, recommend
from tasc.analysis.analyze import Analysis, HeldOut, TextStats, analyze
from tasc.analysis.drafting import DraftEstimate, estimate_drafting
from tasc.analysis.shortening import BUDGETS, Shortening, predict_shortening

__all__ = [
    "BUDGETS",
    "Analysis",
    "DraftEstimate",
    "HeldOut",
    "Recommendation",
    "Shortening",
    "TextStats",
    "analyze",
    "estimate_drafting",
    "predict_shortening",
    "recommend",
]
