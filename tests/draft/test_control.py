"""When to draft: losses are bounded, gains are not lost, and the same calls decide the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasc.draft.control import LONGEST_PAUSE, Control
from tasc.draft.cost import StepCost
from tasc.errors import OptionError

CPU = StepCost.default("cpu")


def simulate(
    control: Control, n_passes: int, claimed: float, real: float, *, n_rows: int = 1, seed: int = 0, length: int = 10
) -> tuple[float, int, int]:
    """Milliseconds by the curve, tokens and passes with drafts; each token is accepted with probability `real`."""
    rng = np.random.default_rng(seed)
    ms, tokens, with_drafts = 0.0, 0, 0
    for _ in range(n_passes):
        wanted = control.drafting
        lengths = control.lengths([[claimed] * length if wanted else []] * n_rows)
        produced = [1 + int((np.cumprod(rng.random(n) < real)).sum()) for n in lengths]
        control.observe(produced)
        ms += control.cost.step_ms(1 + max(lengths), batch_size=n_rows) + wanted * n_rows * control.cost.draft_ms
        tokens += sum(produced)
        with_drafts += max(lengths) > 0
    return ms, tokens, with_drafts


@pytest.mark.parametrize("n_rows", [1, 8])
@pytest.mark.parametrize("claimed", [0.3, 0.6, 0.95])
def test_drafts_that_are_never_right_cost_less_than_two_percent(claimed, n_rows):
    ms, tokens, with_drafts = simulate(Control(CPU), 2000, claimed, 0.0, n_rows=n_rows)
    plain = tokens / n_rows * CPU.step_ms(1, batch_size=n_rows)
    assert tokens == 2000 * n_rows
    assert ms <= 1.02 * plain
    assert with_drafts > 3 or claimed == 0.3, "it must probe again"


def test_making_drafts_that_are_not_worth_verifying_ends_too():
    control = Control(StepCost.default("cpu"))
    ms, tokens, with_drafts = simulate(control, 3000, 0.01, 0.0)
    assert with_drafts == 0
    assert ms <= 1.005 * tokens * CPU.step_ms(1)


def test_without_the_switch_losses_go_on():
    ms, tokens, _ = simulate(Control(CPU, switch_off=False), 1000, 0.95, 0.0)
    assert ms > 1.5 * tokens * CPU.step_ms(1)


def test_good_drafts_are_never_switched_off():
    control = Control(CPU)
    ms, tokens, with_drafts = simulate(control, 2000, 0.8, 0.8)
    assert with_drafts == 2000
    assert tokens * CPU.step_ms(1) / ms > 1.8


def test_drafts_that_become_right_are_found_again():
    control = Control(CPU)
    simulate(control, 20_000, 0.9, 0.0)
    _, _, with_drafts = simulate(control, 2 * LONGEST_PAUSE, 0.9, 0.9)
    assert with_drafts > LONGEST_PAUSE / 2


def test_the_pace_of_the_run_makes_the_run_faster_than_each_pass_on_its_own():
    """Drafts that are sometimes sure and mostly doubtful: doubtful ones are left to faster passes."""

    def run(with_pace: bool) -> float:
        rng, control = np.random.default_rng(1), Control(CPU)
        ms = tokens = 0.0
        for _ in range(4000):
            p = 0.97 if rng.random() < 0.5 else 0.3
            draft = [p] * 10
            n = control.lengths([draft])[0] if with_pace else CPU.best_length(draft)
            got = 1 + int((np.cumprod(rng.random(n) < p)).sum())
            if with_pace:
                control.observe([got])
            ms, tokens = ms + CPU.step_ms(1 + n), tokens + got
        return tokens / ms

    assert run(True) > 1.005 * run(False)


def test_rows_decide_together():
    lengths = Control(CPU).lengths([[0.95] * 10, *[[]] * 7])
    assert lengths[0] < 5
    assert lengths[1:] == [0] * 7
    assert Control(CPU).lengths([[0.95] * 10])[0] >= 8


def test_the_prompt_s_pass_drafts_more_freely():
    """Tokens beside a prompt's cost only their own share."""
    doubtful = [0.3] * 3
    curve = StepCost((1, 2, 4, 8), (1,), (0,), [[[1.0, 1.5, 1.6, 1.8]]])
    assert Control(curve).lengths([doubtful], fed=1) == [0]
    assert Control(curve).lengths([doubtful], fed=20)[0] > 0


def test_max_draft_and_min_gain():
    assert Control(CPU, max_draft=3).lengths([[1.0] * 10]) == [3]
    draft = [0.5, 0.3]
    assert Control(CPU).lengths([draft])[0] > 0
    assert Control(CPU, min_gain=0.5).lengths([draft]) == [0]
    assert Control(CPU, min_gain=0.5).lengths([[0.95] * 8])[0] > 4


@given(st.lists(st.tuples(st.lists(st.floats(0, 1, width=32), max_size=5), st.integers(1, 6)), max_size=60))
def test_the_same_calls_decide_the_same(calls):
    one, other = Control(CPU, max_draft=4), Control(CPU, max_draft=4)
    for probabilities, produced in calls:
        assert one.drafting == other.drafting
        draft = probabilities if one.drafting else []
        assert one.lengths([draft]) == other.lengths([np.array(draft, np.float32)])
        one.observe([produced])
        other.observe([produced])


@pytest.mark.parametrize(
    "options", [{"max_draft": 0}, {"max_draft": 1025}, {"min_gain": -0.1}, {"min_gain": float("inf")}]
)
def test_options_out_of_range(options):
    with pytest.raises(OptionError):
        Control(CPU, **options)


def simulate_ragged(control: Control, n_passes: int, claimed: float, real: float, *, n_rows: int = 8, seed: int = 0):
    """Plain passes that were saved for each that was spent, and passes with drafts; some rows are out of the batch."""
    rng = np.random.default_rng(seed)
    saved, with_drafts = 0.0, 0
    for _ in range(n_passes):
        wanted = control.drafting
        lengths = control.lengths([[claimed] * int(rng.integers(11)) if wanted else [] for _ in range(n_rows)])
        there = rng.random(n_rows) < 0.9
        there[0] = True
        produced = [
            int(here) * (1 + int(np.cumprod(rng.random(n) < real).sum()))
            for n, here in zip(lengths, there, strict=True)
        ]
        control.observe(produced)
        n = int(there.sum())
        plain = control.cost.step_ms(1, batch_size=n)
        ms = float(control.cost.ragged_ms(int((np.array(lengths) * there).sum()), batch_size=n))
        saved += sum(produced) / n - (ms + wanted * n_rows * control.cost.draft_ms) / plain
        with_drafts += any(lengths)
    return saved, with_drafts


@pytest.mark.parametrize("n_rows", [1, 16])
@pytest.mark.parametrize("claimed", [0.6, 0.95])
def test_ragged_drafts_that_are_never_right_cost_few_passes(claimed, n_rows):
    """Under two percent, and it probes again."""
    saved, with_drafts = simulate_ragged(Control(CPU, ragged=True), 2000, claimed, 0.0, n_rows=n_rows)
    assert -40 < saved < 0
    assert 3 < with_drafts < 200


def test_ragged_drafts_that_are_good_stay_on_and_pay():
    saved, with_drafts = simulate_ragged(Control(CPU, ragged=True), 1000, 0.8, 0.8)
    assert saved > 300
    assert with_drafts == 1000


def test_ragged_drafts_that_become_right_are_found_again():
    control = Control(CPU, ragged=True)
    simulate_ragged(control, 5000, 0.9, 0.0, n_rows=2)
    _, with_drafts = simulate_ragged(control, 2 * LONGEST_PAUSE, 0.9, 0.9, n_rows=2)
    assert with_drafts > LONGEST_PAUSE / 2


def test_ragged_what_one_row_gained_is_not_asked_of_many():
    """One row at a time can be decoded several times faster, 64 cannot; they would never draft if they had to."""
    alone = Control(CPU, ragged=True)
    simulate_ragged(alone, 300, 0.98, 0.98, n_rows=1)
    many, fresh = [[0.9] * 4] * 64, Control(CPU, ragged=True)
    assert alone.least(64) == fresh.least(64)
    assert sum(alone.lengths(many)) == sum(fresh.lengths(many)) > 0


def test_ragged_without_the_switch_losses_go_on():
    saved, with_drafts = simulate_ragged(Control(CPU, ragged=True, switch_off=False), 200, 0.95, 0.0)
    assert with_drafts == 200
    assert saved < -50


def test_ragged_rows_have_lengths_of_their_own():
    assert Control(CPU, max_draft=4, ragged=True).lengths([[0.95] * 10, [], [0.9, 0.001], [0.95] * 2]) == [4, 0, 1, 2]


def test_ragged_rows_that_took_no_part_are_ignored():
    """The account is that of the rows that did, but for the making of all drafts."""
    cost = StepCost(CPU.tokens, CPU.batch_sizes, CPU.contexts, CPU.ms, draft_ms=0.0)
    one, other = Control(cost, ragged=True), Control(cost, ragged=True)
    for _ in range(20):
        assert one.lengths([[0.9] * 3] * 2) == [3, 3]
        one.observe([0, 2])
        other.lengths([[0.9] * 3])
        other.observe([2])
        assert (one._credit, one._paces) == (other._credit, other._paces)


def test_a_ragged_pass_that_all_rows_missed_never_was():
    control = Control(CPU, ragged=True)
    for _ in range(200):
        control.lengths([[0.9] * 5] * 3)
        control.observe([0, 0, 0])
    assert control.drafting
    assert control._credit == Control(CPU)._credit


def test_ragged_min_gain():
    draft = [0.5, 0.3]
    assert Control(CPU, ragged=True).lengths([draft])[0] > 0
    assert Control(CPU, ragged=True, min_gain=0.5).lengths([draft]) == [0]
    assert Control(CPU, ragged=True, min_gain=0.5).lengths([[0.95] * 8])[0] > 4


ROWS = st.lists(st.tuples(st.lists(st.floats(0, 1, width=32), max_size=5), st.integers(0, 6)), min_size=1, max_size=4)


@given(st.lists(ROWS, max_size=20), st.lists(st.floats(0.1, 9), min_size=3, max_size=3), st.sampled_from([0.0, 0.3]))
def test_what_is_reached_too_seldom_to_pay_need_not_be_drafted(calls, ms, min_gain):
    cost = StepCost((1, 2, 6), (1,), (0,), [[ms]], draft_ms=0.1)
    whole, short = (Control(cost, max_draft=4, min_gain=min_gain, ragged=True) for _ in range(2))
    for rows in calls:
        drafts = [draft for draft, _ in rows]
        least = short.least(len(rows), context=8)
        cut = [draft[: int((np.cumprod(draft) >= least).sum())] for draft in drafts]
        lengths = whole.lengths(drafts, context=8)
        assert short.lengths(cut, context=8, asked=sum(map(bool, drafts))) == lengths
        produced = [min(new, length + 1) for (_, new), length in zip(rows, lengths, strict=True)]
        whole.observe(produced)
        short.observe(produced)
        assert (short._credit, short.drafting) == (whole._credit, whole.drafting)


@given(
    st.lists(st.tuples(st.lists(st.floats(0, 1, width=32), max_size=5), st.integers(0, 6), st.booleans()), max_size=20),
    st.lists(st.floats(0.1, 9), min_size=3, max_size=3),
)
def test_what_one_row_reaches_too_seldom_need_not_be_drafted_either(calls, ms):
    cost = StepCost((1, 2, 6), (1,), (0,), [[ms]], draft_ms=0.1)
    whole, short = Control(cost, max_draft=4), Control(cost, max_draft=4)
    for draft, new, prompt in calls:
        fed = 3 if prompt else 1
        least = short.least(1, context=8, fed=fed)
        cut = draft[: int((np.cumprod(draft) >= least).sum())]
        (n,) = whole.lengths([draft], context=8, fed=fed)
        assert short.lengths([cut], context=8, fed=fed) == [n]
        for control in (whole, short):
            control.observe([min(new, n) + 1])
        assert (short._credit, short._paces) == (whole._credit, whole._paces)


@given(
    st.lists(st.lists(st.lists(st.floats(0, 1, width=32), max_size=5), min_size=2, max_size=4), max_size=20),
    st.lists(st.floats(0.1, 9), min_size=3, max_size=3),
)
def test_no_pass_of_padded_rows_gets_wider_for_what_all_reach_too_seldom(calls, ms):
    control = Control(StepCost((1, 2, 6), (1,), (0,), [[ms]], draft_ms=0.1), max_draft=4)
    for drafts in calls:
        least = control.least(len(drafts), context=8)
        lengths = control.lengths(drafts, context=8)
        assert max(lengths) <= max(int((np.cumprod(draft) >= least).sum()) for draft in drafts)
        control.observe([n + 1 for n in lengths])


def test_trees_where_their_mask_is_small_and_the_engine_takes_them():
    control = Control(CPU)
    assert control.trees(64)
    assert control.trees(1, fed=2048)
    assert not control.trees(1, fed=2049)
    assert not control.trees(4, fed=2048)
    assert not Control(CPU, tree=False).trees(1)
    assert not Control(CPU, ragged=True).trees(1)


def test_the_more_rows_the_likelier_a_token_must_be_to_be_drafted():
    control = Control(
        StepCost((1, 2, 4), (1, 32), (0,), [[[4.0, 4.1, 4.4]], [[10.0, 14.0, 20.0]]]), max_draft=3, ragged=True
    )
    assert control.least(1) == pytest.approx(0.1 / 4, rel=1e-3)
    assert control.least(32) == pytest.approx(3 / 10, rel=1e-3)


@given(st.lists(ROWS, max_size=40))
def test_the_same_ragged_calls_decide_the_same(calls):
    one, other = Control(CPU, max_draft=4, ragged=True), Control(CPU, max_draft=4, ragged=True)
    for rows in calls:
        assert one.drafting == other.drafting
        drafts = [probabilities if one.drafting else [] for probabilities, _ in rows]
        lengths = one.lengths(drafts)
        assert lengths == other.lengths([np.array(draft, np.float32) for draft in drafts])
        assert all(0 <= n <= min(len(draft), 4) for n, draft in zip(lengths, drafts, strict=True))
        for control in (one, other):
            control.observe([n for _, n in rows])
