"""The choice for fewest tokens: its scores equal recounts, it fits the budget, and no budget disturbs another."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasc.corpus import TokenCorpus
from tasc.vocab import EnrichedVocabulary, Ngram, mine
from tasc.vocab import _selection as kernels
from tasc.vocab._trie import build_trie
from tasc.vocab.best import _frequent_ngrams, _Selection, choose
from tasc.vocab.miner import accept_all

BASE = 5
rows_of = st.lists(st.lists(st.integers(0, BASE - 1), min_size=1, max_size=14), min_size=2, max_size=10)


def candidates_in(rows):
    found = {tuple(row[i : i + n]) for row in rows for n in (2, 3, 4) for i in range(len(row) - n + 1)}
    return sorted(found)[:20]


def recount(rows, weights, expansions):
    vocabulary = EnrichedVocabulary(BASE, tuple(Ngram(e, e) for e in expansions), "fewest")
    return sum(int(w) * vocabulary.merge(row).size for row, w in zip(rows, weights, strict=True))


@settings(max_examples=120, deadline=None)
@given(rows=rows_of, data=st.data())
def test_scores_equal_recounts_for_ngrams_that_occur_once(rows, data):
    """With one occurrence there is nothing to add up, so gain and loss must be exact."""
    weights = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(rows), max_size=len(rows))), np.int64)
    candidates = candidates_in(rows)
    if not candidates:
        return
    flags = data.draw(st.lists(st.booleans(), min_size=len(candidates), max_size=len(candidates)))
    active = np.array(flags)
    corpus = TokenCorpus.from_rows(rows)
    arcs = kernels.find_arcs(corpus.tokens, corpus.offsets, *build_trie(candidates))
    total, scores = kernels.score(arcs, corpus.offsets, weights, active)
    chosen = {c for c, flag in zip(candidates, flags, strict=True) if flag}
    assert (
        total == recount(rows, weights, sorted(chosen)) == kernels.fewest_tokens(arcs, corpus.offsets, weights, active)
    )
    for k, candidate in enumerate(candidates):
        if np.sum(arcs.candidates == k) == 1:
            changed = chosen ^ {candidate}
            assert scores.value[k] == abs(total - recount(rows, weights, sorted(changed)))


def fewest(length, arcs):
    """Fewest steps from 0 to `length`, by single ids and by (begin, end) arcs."""
    best = [0]
    for end in range(1, length + 1):
        best.append(1 + min([best[end - 1], *(best[i] for i, j in arcs if j == end)]))
    return best[length]


def places(row, candidate):
    return [(i, i + len(candidate)) for i in range(len(row)) if tuple(row[i : i + len(candidate)]) == candidate]


def brute_score(rows, weights, candidates, active):
    """Every occurrence in turn put in or taken out, all else as it is; of overlapping ones of a candidate the first."""
    value, uses = [0] * len(candidates), [0] * len(candidates)
    for row, weight in zip(rows, weights.tolist(), strict=True):
        usable = {place for c, on in zip(candidates, active, strict=True) if on for place in places(row, c)}
        now = fewest(len(row), usable)
        for k, candidate in enumerate(candidates):
            free_from = 0
            for place in places(row, candidate):
                changed = fewest(len(row), usable ^ {place})
                if place[0] >= free_from and changed != now:
                    value[k] += abs(changed - now) * weight
                    uses[k] += weight
                    free_from = place[1]
    return value, uses


few_ids = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=12), min_size=2, max_size=5)


@settings(max_examples=150, deadline=None)
@given(rows=few_ids | rows_of, data=st.data())
def test_scores_with_overlapping_occurrences_in_several_rows(rows, data):
    """With two ids nearly every n-gram overlaps itself and its neighbours."""
    weights = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(rows), max_size=len(rows))), np.int64)
    candidates = candidates_in(rows)
    if not candidates:
        return
    active = np.array(data.draw(st.lists(st.booleans(), min_size=len(candidates), max_size=len(candidates))))
    corpus = TokenCorpus.from_rows(rows)
    arcs = kernels.find_arcs(corpus.tokens, corpus.offsets, *build_trie(candidates))
    scores = kernels.score(arcs, corpus.offsets, weights, active)[1]
    value, uses = brute_score(rows, weights, candidates, active)
    assert scores.value.tolist() == value
    assert scores.uses.tolist() == uses


@settings(max_examples=60, deadline=None)
@given(rows=rows_of, data=st.data())
def test_arcs_of_wanted_candidates(rows, data):
    corpus, candidates = TokenCorpus.from_rows(rows), candidates_in(rows)
    if not candidates:
        return
    wanted = np.array(data.draw(st.lists(st.booleans(), min_size=len(candidates), max_size=len(candidates))))
    arcs = kernels.find_arcs(corpus.tokens, corpus.offsets, *build_trie(candidates))
    found = kernels.select_arcs(arcs, wanted)

    def listed(some):
        at = np.repeat(np.arange(corpus.n_tokens), np.diff(some.starts))
        return list(zip(at.tolist(), some.candidates.tolist(), some.lengths.tolist(), strict=True))

    assert listed(found) == [arc for arc in listed(arcs) if wanted[arc[1]]]


@settings(max_examples=60, deadline=None)
@given(rows=rows_of, budget=st.integers(1, 8))
def test_choice_fits_the_budget_and_is_deterministic(rows, budget):
    corpus, counts = TokenCorpus.from_rows(rows * 4).unique()
    ((_, first),) = choose(corpus, counts, budgets=[budget], base_size=BASE)
    ((_, second),) = choose(corpus, counts, budgets=[budget], base_size=BASE)
    assert first == second
    assert len(first) <= budget
    assert len({c.ids for c in first}) == len(first)


@settings(max_examples=40, deadline=None)
@given(rows=rows_of, budget=st.integers(1, 4))
def test_what_an_earlier_budget_left_behind_does_not_matter(rows, budget):
    corpus, counts = TokenCorpus.from_rows(rows * 4).unique()
    options = {"most": 8, "base_size": BASE, "n_max": 4, "accept": accept_all, "discount": 1.0}
    fresh, used = _Selection(corpus, counts, **options), _Selection(corpus, counts, **options)
    used.start_own(8)
    used.refine(8, 6.0)
    used.start_grown(budget)
    fresh.start_grown(budget)
    assert used.look()[2].tolist() == fresh.look()[2].tolist()
    assert used.active.tolist() == fresh.active.tolist()


def test_finds_what_algorithm_1_wastes_budget_on():
    """Algorithm 1 (n_max 2) spends two merges to reach a b c; choosing whole n-grams spends one."""
    rows = [[0, 1, 2]] * 10 + [[2, 3, 4]] * 9
    corpus, counts = TokenCorpus.from_rows(rows).unique()
    ((_, chosen),) = choose(corpus, counts, budgets=[2], base_size=BASE, n_max=2)
    assert {c.ids for c in chosen} == {(0, 1, 2), (2, 3, 4)}
    assert [c.reward for c in chosen] == [20, 18]
    paper = EnrichedVocabulary(
        BASE, tuple(Ngram(m.ids, m.parts) for m in mine(corpus, counts, budget=2, base_size=BASE, n_max=2))
    )
    assert paper.merge([0, 1, 2]).size + paper.merge([2, 3, 4]).size > 2


def test_ngrams_that_a_longer_one_contains_are_candidates():
    """0 1 occurs only within 0 1 2 and so is not closed, but beside it 2 3 4 stays whole."""
    rows = [[0, 1, 2, 3, 4]] * 40 + [[2, 3, 4]] * 60
    corpus, counts = TokenCorpus.from_rows(rows).unique()
    found = _frequent_ngrams(corpus, counts, 2, BASE)
    assert len(set(found)) == len(found)
    assert (0, 1) in found


def test_refused_candidates_are_left_out():
    corpus, counts = TokenCorpus.from_rows([[0, 1, 2]] * 5).unique()
    ((_, chosen),) = choose(corpus, counts, budgets=[3], base_size=BASE, accept=lambda ids: len(ids) == 2)
    assert chosen
    assert all(len(c.ids) == 2 for c in chosen)


def test_form_letters_are_no_longer_than_with_algorithm_1():
    """It reaches the whole letter of 60 ids, which is longer than the other candidates may be."""
    rows = [list(range(60))] * 10
    corpus, counts = TokenCorpus.from_rows(rows).unique()
    merges = mine(corpus, counts, budget=20, base_size=60)
    paper = EnrichedVocabulary(60, tuple(Ngram(m.ids, m.parts) for m in merges))
    assert paper.merge(rows[0]).size == 1
    ((_, chosen),) = choose(corpus, counts, budgets=[20], base_size=60)
    best = EnrichedVocabulary(60, tuple(Ngram(c.ids, c.ids) for c in chosen), "fewest")
    assert best.merge(rows[0]).size == 1


def test_a_budget_beyond_all_ngrams_is_no_worse_than_one_that_holds_them():
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 40, rng.integers(3, 12)).tolist() for _ in range(30)]
    rows = [[token for k in rng.zipf(1.3, 3) % 30 for token in parts[k]] for _ in range(300)]
    corpus, counts = TokenCorpus.from_rows(rows).unique()

    def tokens(budget):
        ((_, found),) = choose(corpus, counts, budgets=[budget], base_size=40)
        merge = EnrichedVocabulary(40, tuple(Ngram(one.ids, one.ids) for one in found), "fewest").merge
        return sum(merge(row).size for row in rows)

    assert tokens(500) == tokens(100_000) == tokens(10**8)


def test_unused_ngrams_are_dropped_before_those_that_the_discount_leaves_nothing():
    rows = [[0, 1]] * 5 + [[2, 3, 4]] * 20
    corpus, counts = TokenCorpus.from_rows(rows).unique()
    selection = _Selection(corpus, counts, most=8, base_size=BASE, n_max=4, accept=accept_all, discount=6.0)
    for ids in ((0, 1), (2, 3), (2, 3, 4)):  # 2 3 has no use beside 2 3 4
        selection.active[selection.candidates.index(ids)] = True
    assert [c.ids for c in selection.chosen()] == [(2, 3, 4), (0, 1), (2, 3)]
    selection.prune(2, batches=1)
    assert [c.ids for c in selection.chosen()] == [(2, 3, 4), (0, 1)]
