import pytest

from tasc.analysis import DraftEstimate, Shortening, recommend
from tasc.analysis.advice import near_best


def shortening(*ratios, budgets=(150, 250, 500, 1000), rarest=50, length=20.0):
    return tuple(
        Shortening(budget, budget, length / ratio, ratio, (length + 1) / (length / ratio + 1), 4.0, rarest)
        for budget, ratio in zip(budgets, ratios, strict=True)
    )


def advise(ratios, tokens_per_pass, *, tokens_mean=20.0, rows=1000):
    drafting = DraftEstimate(tokens_per_pass, 0.5, 4, 10)
    return recommend(shortening(*ratios), drafting, tokens_mean=tokens_mean, rows=rows)


@pytest.mark.parametrize(
    ("ratios", "tokens_per_pass", "tokens_mean", "verdict"),
    [
        ((3.4, 3.9, 4.6, 5.2), 2.96, 15.0, "tasc-ft"),  # massive_en
        ((1.54, 1.71, 2.01, 2.42), 3.12, 15.6, "tasc-ft"),  # eurlex57k_short
        ((1.30, 1.36, 1.45, 1.56), 2.13, 262, "tasc-spec"),  # medquad
        ((1.13, 1.15, 1.19, 1.24), 1.22, 231, "not-worth-it"),  # stories
        ((1.0, 1.0, 1.0, 1.0), 1.8, 1.0, "nothing-to-gain"),  # yes or no
        ((3.0, 3.0, 3.0, 3.0), 2.0, 3.0, "nothing-to-gain"),  # labels of three tokens
    ],
)
def test_verdicts(ratios, tokens_per_pass, tokens_mean, verdict):
    advice = advise(ratios, tokens_per_pass, tokens_mean=tokens_mean)
    assert advice.verdict == verdict
    assert (advice.budget is not None) == (verdict == "tasc-ft")
    expected_number = {"nothing-to-gain": f"{tokens_mean:.1f}"}.get(verdict, f"{tokens_per_pass:.2f}")
    assert expected_number in advice.text


def test_a_gain_that_comes_only_with_a_large_budget_is_no_reason_for_fine_tuning():
    assert advise((1.1, 1.2, 1.4, 1.9), 2.0).verdict == "tasc-spec"
    assert advise((1.1, 1.2, 1.7, 1.9), 2.0).verdict == "tasc-ft"


def test_the_budget_is_the_smallest_near_the_best():
    assert near_best(shortening(3.0, 3.9, 4.0, 4.05)).budget == 250
    assert near_best(shortening(1.5, 1.7, 2.0, 2.4)).budget == 1000
    assert near_best(shortening(2.0, 2.0, 2.0, 2.0)).budget == 150


def test_a_budget_of_rare_ngrams_is_passed_over():
    common, rare = shortening(2.0, 3.0, 4.0, 5.0), shortening(2.0, 3.0, 4.0, 5.0, rarest=4)
    assert near_best((*common[:3], rare[3])).budget == 500
    assert near_best(rare).budget == 150


def test_few_held_out_rows_are_said_to_be_rough():
    assert "Only 20 held-out rows" in advise((3, 3, 3, 3), 2.0, rows=20).text
    assert "rough" not in advise((3, 3, 3, 3), 2.0, rows=100).text


def test_no_budgets_asked_for_leaves_drafting():
    drafting = DraftEstimate(2.0, 0.5, 4, 10)
    assert recommend((), drafting, tokens_mean=50.0, rows=500).verdict == "tasc-spec"
