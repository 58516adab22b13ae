"""Learnt weights, and how their probabilities are checked, against sums in numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plain_request import EOS, mixture
from tasc.corpus import TokenCorpus
from tasc.draft import _features, _fit, learning
from tasc.draft.learning import Observed, Reliability

ROWS = st.lists(st.lists(st.integers(1, 4), max_size=8), min_size=1, max_size=8)


def observed_on(rows, prompts, outputs, **options):
    return learning.observe(mixture(rows, **options), TokenCorpus.from_rows(prompts), TokenCorpus.from_rows(outputs))


def teach(drafter, prompts, outputs, *, of_tokens=True):
    return learning.teach(drafter, TokenCorpus.from_rows(prompts), TokenCorpus.from_rows(outputs), of_tokens=of_tokens)


def test_before_learning_a_loop_is_the_surer_the_longer_it_goes_on():
    drafter, chances = mixture([[7, 8]]), []
    for repeats in (3, 4, 8, 16):
        state = drafter.start([3])
        state.extend([4] * (repeats + 1))
        draft = state.propose(1)
        chances.append(draft.probabilities[0] if draft.tokens[0] == 4 else 0)
    assert sorted(set(chances)) == chances


def copied_rows(n=40, seed=0):
    """Prompts of 5 tokens that the outputs repeat: the initial weights believe the corpus more than they should."""
    random = np.random.default_rng(seed)
    prompts = random.integers(1, 9, (n, 5)).tolist()
    return prompts, [prompt[:4] for prompt in prompts]


def chances_of(observed, weights):
    """Softmax over the candidates and "none of them", which is last; one list for each token."""
    weights, found = weights.astype(np.float64), []
    for n, features in zip(observed.n_found, observed.features, strict=True):
        totals = [
            sum(weights[start + k] for start, k in zip(_features.STARTS, line, strict=True)) for line in features[:n]
        ]
        totals.append(weights[_features.NONE_AT + features[-1, 0]])
        powers = np.exp(np.array(totals) - max(totals))
        found.append(powers / powers.sum())
    return found


def likelihood(observed, weights, chosen):
    chances = chances_of(observed, weights)
    return sum(np.log(one[gold]) for one, gold, here in zip(chances, observed.gold, chosen, strict=True) if here)


@settings(max_examples=50)
@given(ROWS, st.data())
def test_every_token_is_observed_with_its_end(rows, data):
    outputs = data.draw(st.lists(st.lists(st.integers(0, 6), max_size=6), min_size=1, max_size=4))
    prompts = data.draw(st.lists(st.lists(st.integers(1, 6), max_size=6), min_size=len(outputs), max_size=len(outputs)))
    found = observed_on(rows, prompts, outputs)
    assert found.offsets.tolist() == np.cumsum([0, *(len(output) + 1 for output in outputs)]).tolist()
    assert len(found.n_found) == len(found.gold) == len(found.features) == found.offsets[-1]
    assert np.all((found.gold >= 0) & (found.gold <= found.n_found))
    one_by_one = [observed_on(rows, [prompt], [output]) for prompt, output in zip(prompts, outputs, strict=True)]
    for name in ("n_found", "gold", "features"):
        np.testing.assert_array_equal(getattr(found, name), np.concatenate([getattr(one, name) for one in one_by_one]))


def test_learning_raises_the_likelihood_of_what_it_learns_from():
    prompts, outputs = copied_rows()
    observed = observed_on([[1, 2], [3, 4]] * 5, prompts, outputs)
    chosen = np.random.default_rng(0).random(len(observed.gold)) < 0.7
    weights = learning.learn(observed, chosen)
    before = likelihood(observed, learning.initial_weights(), chosen)
    after = likelihood(observed, weights, chosen)
    assert after > 0.5 * before  # both are negative
    # what was copied in the rows learnt from is believed in the others too
    assert likelihood(observed, weights, ~chosen) > likelihood(observed, learning.initial_weights(), ~chosen)
    assert weights.dtype == np.float32


@settings(max_examples=25)
@given(ROWS, ROWS, st.integers(0, 5))
def test_learning_never_leaves_its_rows_less_likely(rows, outputs, seed):
    observed = observed_on(rows, [[1, 2, 3]] * len(outputs), outputs)
    everything = np.ones(len(observed.gold), bool)
    weights = learning.learn(observed, everything, seed=seed)
    assert likelihood(observed, weights, everything) >= likelihood(observed, learning.initial_weights(), everything)


def test_learning_is_deterministic_and_leaves_its_input_alone():
    prompts, outputs = copied_rows(10)
    observed = observed_on([[1, 2]] * 5, prompts, outputs)
    before = [array.copy() for array in (observed.n_found, observed.gold, observed.features)]
    everything = np.ones(len(observed.gold), bool)
    first = learning.learn(observed, everything)
    np.testing.assert_array_equal(first, learning.learn(observed, everything))
    assert not np.array_equal(first, learning.learn(observed, everything, seed=1))
    for array, old in zip((observed.n_found, observed.gold, observed.features), before, strict=True):
        np.testing.assert_array_equal(array, old)


@given(ROWS, ROWS)
def test_nothing_to_learn_from_leaves_the_initial_weights(rows, outputs):
    observed = observed_on(rows, [[1]] * len(outputs), outputs)
    weights = learning.learn(observed, np.zeros(len(observed.gold), bool))
    np.testing.assert_array_equal(weights, learning.initial_weights())


def test_no_rows_at_all():
    observed = observed_on([[1]], [], [])
    weights = learning.learn(observed, np.zeros(0, bool))
    np.testing.assert_array_equal(weights, learning.initial_weights())
    found = learning.check(observed, np.zeros(0, bool), weights)
    assert found == Reliability((0,) * learning.BINS, (0.0,) * learning.BINS, (0.0,) * learning.BINS)
    assert found.error == 0


def test_one_pass_takes_adagrad_steps():
    """Token by token in the given order, in plain Python."""
    prompts, outputs = copied_rows(6)
    observed = observed_on([[1, 2], [1, 3]], prompts, outputs)
    order = np.random.default_rng(1).permutation(len(observed.gold))
    weights, squares = learning.initial_weights().astype(np.float64), np.ones(_features.N_WEIGHTS)
    found, found_squares = weights.copy(), squares.copy()
    total = _fit.fit(observed.n_found, observed.gold, observed.features, order, found, found_squares, learning.RATE)
    expected = 0.0
    for at in order:
        n, gold = observed.n_found[at], observed.gold[at]
        one = Observed(observed.n_found[[at]], observed.gold[[at]], observed.features[[at]], np.array([0, 1]))
        chances = chances_of(one, weights)[0]
        expected += np.log(chances[gold])
        for k in range(n + 1):
            slope = chances[k] - (k == gold)
            if abs(slope) < 1e-4:
                continue
            starts = _features.STARTS if k < n else [_features.NONE_AT]
            for start, bin_ in zip(starts, observed.features[at, k if k < n else -1], strict=False):
                squares[start + bin_] += slope**2
                weights[start + bin_] -= learning.RATE * slope / np.sqrt(squares[start + bin_])
    assert total == pytest.approx(expected)
    np.testing.assert_allclose(found, weights, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found_squares, squares, rtol=1e-7)


@settings(max_examples=50)
@given(ROWS, ROWS, st.integers(0, 100))
def test_reliability_counts_drafts_by_their_chance(rows, outputs, seed):
    random = np.random.default_rng(seed)
    observed = observed_on(rows, [[1, 2, 3]] * len(outputs), outputs)
    weights = random.normal(0, 2, _features.N_WEIGHTS).astype(np.float32)
    chosen = random.random(len(observed.gold)) < 0.7
    drafted = [[] for _ in range(learning.BINS)]
    for n, gold, chances, here in zip(
        observed.n_found, observed.gold, chances_of(observed, weights), chosen, strict=True
    ):
        if here:
            best = int(np.argmax(chances[:n])) if n else -1
            chance = chances[best] if n else 0.0
            drafted[min(int(chance * learning.BINS), learning.BINS - 1)].append((chance, best == gold and gold < n))
    found = learning.check(observed, chosen, weights)
    assert found.counts == tuple(map(len, drafted))
    for place, name in ((0, "predicted"), (1, "observed")):
        means = [np.mean([pair[place] for pair in pairs]) if pairs else 0 for pairs in drafted]
        np.testing.assert_allclose(getattr(found, name), means, rtol=1e-6)
    distance = sum(abs(sum(p for p, _ in pairs) - sum(o for _, o in pairs)) for pairs in drafted)
    assert found.error == pytest.approx(distance / max(chosen.sum(), 1), abs=1e-9)


def test_a_worked_example_of_reliability():
    """Two drafts at about 0.7, one right; one at 0.95 that is right; one token without any candidate."""
    reliability = Reliability((1, 0, 2, 1), (0.0, 0.0, 0.7, 0.95), (0.0, 0.0, 0.5, 1.0))
    assert reliability.error == pytest.approx((2 * 0.2 + 0.05) / 4)


def test_every_fifth_row_checks_and_teaches_nothing():
    prompts, outputs = copied_rows(20)
    drafter = mixture([[1, 2], [3, 4]] * 5)
    weights, reliability = teach(drafter, prompts, outputs)
    checked = [row for row in range(20) if row % learning.CHECKED == 0]
    assert sum(reliability.counts) == sum(len(outputs[row]) + 1 for row in checked)
    others = [outputs[row] if row not in checked else [8, 8, 8, EOS][: len(outputs[row])] for row in range(20)]
    again, _ = teach(drafter, prompts, others)
    np.testing.assert_array_equal(weights, again)


def test_weights_of_single_tokens_are_learnt_only_where_that_is_wanted():
    prompts, outputs = copied_rows(20)
    drafter = mixture([[1, 2], [3, 4]] * 5)
    every, _ = teach(drafter, prompts, outputs)
    others, _ = teach(drafter, prompts, outputs, of_tokens=False)
    assert np.any(every[_features.OF_TOKENS])
    assert not np.any(others[_features.OF_TOKENS])
    assert np.any(others != learning.initial_weights())


@given(ROWS)
def test_weights_are_learnt_from_rows_without_prompts_too(rows):
    drafter = mixture(rows)
    weights, reliability = teach(drafter, [[]] * len(rows), rows)
    assert np.all(np.isfinite(weights))
    assert sum(reliability.counts) == sum(len(rows[row]) + 1 for row in range(0, len(rows), learning.CHECKED))
    if len(rows) == 1:  # it checks, so none is left to learn from
        np.testing.assert_array_equal(weights, learning.initial_weights())
