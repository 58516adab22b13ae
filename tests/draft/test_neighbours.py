"""Rows found by their prompts, against tf-idf sums over all rows."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasc.corpus import TokenCorpus
from tasc.draft import _neighbours as kernels
from tasc.draft import neighbours as module
from tasc.draft.neighbours import Neighbours, common_prefix

IDS = st.integers(0, 9)  # few, so that prompts share terms and cosines tie
PROMPTS = st.lists(st.lists(IDS, max_size=8), min_size=1, max_size=12)
LONG = st.lists(st.integers(0, 300), max_size=120)  # more distinct tokens than compete, more than are kept
PREFIXES = st.lists(IDS, max_size=3)


def built(prompts, lengths=None):
    lengths = np.full(len(prompts), 100) if lengths is None else lengths
    return Neighbours.build(TokenCorpus.from_rows(prompts), lengths=np.array(lengths, np.int64))


def plain_prefix(rows):
    agreed = 0
    while all(agreed < len(row) and row[agreed] == rows[0][agreed] for row in rows):
        agreed += 1
    return rows[0][:agreed]


def plain_terms(prompt, prefix, most=kernels.TERMS):
    """The highest of the first distinct ids behind the template; of all the prompt if it has none."""
    if prompt[: len(prefix)] == prefix:
        prompt = prompt[len(prefix) :]
    distinct = list(dict.fromkeys(token for token in prompt if token >= 0))[: kernels.READ]
    return sorted(sorted(distinct, reverse=True)[:most])


class Plain:
    """Rows as lists of terms."""

    def __init__(self, prompts, lengths, prefix=None):
        self.prefix = plain_prefix(prompts) if prefix is None else prefix
        self.rows = [
            plain_terms(prompt, self.prefix, min(kernels.TERMS, length))
            for prompt, length in zip(prompts, lengths, strict=True)
        ]

    def rows_with(self, term):
        return [row for row, terms in enumerate(self.rows) if term in terms]

    def squared_idf(self, term):
        return kernels.idf(len(self.rows), len(self.rows_with(term))) ** 2

    def ranking(self, prompt):
        """(cosine, row), best first, ties by row; rounded as the kernels round."""
        known = {term: self.rows_with(term) for term in plain_terms(prompt, self.prefix)}
        known = {term: rows for term, rows in known.items() if rows}
        norm = math.sqrt(sum(self.squared_idf(term) for term in known))
        sums = {}
        for term in sorted(known, key=lambda term: (len(known[term]), term)):
            for row in known[term]:
                sums[row] = np.float32(float(sums.get(row, 0)) + self.squared_idf(term) / norm)
        return sorted(
            ((total / self.norm(row), row) for row, total in sums.items()), key=lambda pair: (-pair[0], pair[1])
        )

    def norm(self, row):
        total = np.float32(0)
        for term in self.rows[row]:
            total = np.float32(float(total) + self.squared_idf(term))
        return np.float32(math.sqrt(total))


def similar(one, prompt, most=module.MOST_ROWS):
    rows, cosines = np.empty(most, np.int32), np.empty(most, np.float32)
    n = kernels.similar(
        one.term_ids, one.term_starts, one.postings, one.norms, one.prefix, np.array(prompt, np.int32),
        one._sums, one._touched, rows, cosines,
    )  # fmt: skip
    assert not one._sums.any()
    return list(zip(cosines[:n].tolist(), rows[:n].tolist(), strict=True))


def same(one, other):
    for name in ("term_ids", "term_starts", "postings", "norms", "prefix"):
        found, expected = getattr(one, name), getattr(other, name)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, err_msg=name)


@given(LONG | st.lists(st.integers(-3, 9), max_size=20), PREFIXES, st.integers(0, kernels.TERMS))
def test_terms_are_the_highest_of_the_first_distinct_ids(prompt, prefix, most):
    expected = plain_terms(prompt, prefix, most)
    seen, terms = np.full(301, -1, np.int32), np.full(kernels.TERMS, 77, np.int32)
    ids, start = np.array(prompt, np.int32), np.array(prefix, np.int32)
    for stamp in range(2):
        n = kernels.terms_of(ids, start, most, seen, stamp, terms)
        assert terms[:n].tolist() == expected
    n = kernels.query_terms(ids, start, terms)
    assert terms[:n].tolist() == plain_terms(prompt, prefix)


@given(PROMPTS | st.lists(LONG, min_size=1, max_size=4), st.data())
def test_the_index_inverts_the_terms_of_all_rows(prompts, data):
    lengths = data.draw(st.lists(st.integers(0, 20), min_size=len(prompts), max_size=len(prompts)))
    one, plain = built(prompts, lengths), Plain(prompts, lengths)
    assert one.prefix.tolist() == plain.prefix
    assert one.term_ids.tolist() == sorted({term for terms in plain.rows for term in terms})
    found = [one.postings[a:b].tolist() for a, b in zip(one.term_starts[:-1], one.term_starts[1:], strict=True)]
    assert found == [plain.rows_with(term) for term in one.term_ids.tolist()]
    assert one.norms.tolist() == [plain.norm(row) for row in range(len(prompts))]
    exact = [
        sum(math.log(1 + len(prompts) / (1 + len(plain.rows_with(t)))) ** 2 for t in terms) for terms in plain.rows
    ]
    np.testing.assert_allclose(one.norms, np.sqrt(exact), rtol=1e-5)


@settings(max_examples=300)
@given(PROMPTS, st.data(), st.sampled_from([1, 2, 3, module.MOST_ROWS]))
def test_the_most_similar_rows_are_those_of_all_cosines(prompts, data, most):
    lengths = data.draw(st.lists(st.integers(0, 9), min_size=len(prompts), max_size=len(prompts)))
    one, plain = built(prompts, lengths), Plain(prompts, lengths)
    for _ in range(2):  # a question leaves nothing behind
        prompt = data.draw(st.lists(st.integers(-1, 11), max_size=10).map(lambda ids: plain.prefix + ids))
        assert similar(one, prompt, most) == plain.ranking(prompt)[:most]


@given(PROMPTS, st.integers(0, 11))
def test_a_prompt_finds_itself_first(prompts, row):
    row %= len(prompts)
    one, terms = built(prompts), Plain(prompts, [100] * len(prompts)).rows
    found = similar(one, prompts[row])
    if terms[row]:
        assert found[0][0] == pytest.approx(1, abs=1e-6)
        assert terms[found[0][1]] == terms[row]
    assert all(cosine <= 1 + 1e-6 for cosine, _ in found)


def test_rarest_terms_come_first_and_the_rest_is_not_read():
    """Together both terms stand in more rows than are read: those of the rarer one are, the others are not."""
    n = kernels.VISITED
    counts = {5: n * 2 // 3, 4: n // 2}
    prompts = [[term] for term, count in counts.items() for _ in range(count)]
    found = similar(built(prompts), [5, 4])
    assert [row for _, row in found] == list(range(counts[5], counts[5] + module.MOST_ROWS))
    assert similar(built(prompts), [5])[0][1] == 0
    # a term in more rows than that is read all the same when it is all there is
    everywhere = built([[5]] * (n + 10) + [[6]])
    assert [row for _, row in similar(everywhere, [5])] == list(range(module.MOST_ROWS))


@given(PROMPTS, st.data())
def test_rows_left_out_are_as_if_they_had_never_been_there(prompts, data):
    """But for the template, which stays that of all rows."""
    lengths = data.draw(st.lists(st.integers(0, 9), min_size=len(prompts), max_size=len(prompts)))
    dropped = data.draw(st.lists(st.integers(0, len(prompts) - 1), unique=True))
    one = built(prompts, lengths).without(np.array(dropped, np.int32))
    kept = [row for row in range(len(prompts)) if row not in dropped]
    plain = Plain([prompts[row] for row in kept], [lengths[row] for row in kept], plain_prefix(prompts))
    assert one.prefix.tolist() == plain.prefix
    assert one.term_ids.tolist() == sorted({term for terms in plain.rows for term in terms})
    found = [one.postings[a:b].tolist() for a, b in zip(one.term_starts[:-1], one.term_starts[1:], strict=True)]
    assert found == [plain.rows_with(term) for term in one.term_ids.tolist()]
    prompt = data.draw(st.lists(IDS, max_size=8))
    assert similar(one, prompt) == plain.ranking(prompt)[: module.MOST_ROWS]
    if kept and plain_prefix([prompts[row] for row in kept]) == plain.prefix:
        same(one, built([prompts[row] for row in kept], [lengths[row] for row in kept]))


@settings(max_examples=300)
@given(st.lists(st.tuples(PREFIXES, PROMPTS), min_size=1, max_size=4), PREFIXES, st.data())
def test_merged_parts_equal_the_whole(parts, prefix, data):
    """Also where the prompts of a part begin alike in more tokens than those of all parts."""
    shards = [[prefix + more + prompt for prompt in prompts] for more, prompts in parts]
    prompts = [prompt for shard in shards for prompt in shard]
    lengths = data.draw(st.lists(st.integers(0, 9), min_size=len(prompts), max_size=len(prompts)))
    ends = np.cumsum([len(shard) for shard in shards])
    some = [built(shard, lengths[end - len(shard) : end]) for shard, end in zip(shards, ends, strict=True)]
    same(Neighbours.merge(some, lengths=np.array(lengths, np.int64)), built(prompts, lengths))


@given(PROMPTS, st.lists(IDS, max_size=8), st.sampled_from([1, 30, 400, 2000]), st.integers(0, 100))
def test_similar_outputs_are_taken_up_to_a_budget(prompts, prompt, longest, seed):
    """Best last; all but the farthest hold fewer than MOST_TOKENS tokens, and there is one if any row is similar."""
    lengths = np.random.default_rng(seed).integers(1, longest + 1, len(prompts))
    one = built(prompts, lengths)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    rows, weights = one.find(np.array(prompt, np.int32), starts)
    ranking = similar(one, prompt)
    assert rows.tolist() == [row for _, row in ranking[: len(rows)]][::-1]
    assert (
        weights.tolist()
        == [max(int(np.float32(min(cosine, 1)) ** 2 * module.SCALE), 1) for cosine, _ in ranking[: len(rows)]][::-1]
    )
    assert (rows.dtype, weights.dtype) == (np.int32, np.int32)
    assert lengths[rows[1:]].sum() < module.MOST_TOKENS
    assert len(rows) >= min(len(ranking), 1)
    if lengths[[row for _, row in ranking]].sum() < module.MOST_TOKENS:
        assert len(rows) == len(ranking)


def test_a_worked_example():
    """Ten begins every prompt. Rows 0 and 1 share 30; 40 stands in row 0 only and weighs more."""
    one = built([[10, 30, 40], [10, 30], [10, 50], [10]])
    assert one.prefix.tolist() == [10]
    assert one.term_ids.tolist() == [30, 40, 50]
    assert one.postings.tolist() == [0, 1, 0, 2]
    often, once = math.log(1 + 4 / 3), math.log(1 + 4 / 2)
    np.testing.assert_allclose(one.norms, [math.hypot(often, once), often, once, 0], rtol=1e-6)
    found = similar(one, [10, 30])
    assert [row for _, row in found] == [1, 0]
    np.testing.assert_allclose([cosine for cosine, _ in found], [1, often / math.hypot(often, once)], rtol=1e-6)
    assert similar(one, [10, 60]) == []
    assert similar(one, []) == []
    assert [row for _, row in similar(one, [50, 3])] == [2]  # another template


def test_prefixes():
    assert common_prefix(TokenCorpus.from_rows([[1, 2, 3], [1, 2], [1, 2, 4]])).tolist() == [1, 2]
    assert common_prefix(TokenCorpus.from_rows([[1], []])).tolist() == []
    assert common_prefix(TokenCorpus.from_rows([[1, 2]])).tolist() == [1, 2]
    assert common_prefix(TokenCorpus.from_rows([])).tolist() == []


def test_norms_of_a_damaged_file_give_weights_in_range():
    one = built([[1, 5], [2, 5], [3, 5]])
    for norm in (0.0, 1e-45, 1e-30, 1e30):
        broken = Neighbours(one.term_ids, one.term_starts, one.postings, np.full(3, norm, np.float32), one.prefix)
        _, weights = broken.find(np.array([5], np.int32), np.arange(4, dtype=np.int32))
        assert len(weights) == 3
        assert np.all((weights >= 1) & (weights <= module.SCALE))
