"""PCS equals its definition, and its threshold keeps colliding n-grams out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasc.vocab.pcs import PrefixCollisions

texts = st.lists(st.binary(min_size=1, max_size=4).map(lambda b: bytes(x % 3 for x in b)), min_size=2, max_size=12)


def by_definition(pieces, counts, ids):
    parts = [pieces[i] for i in ids]
    suffixes = [b"".join(parts[k:]) for k in range(len(parts))]
    hit = [c for p, c in zip(pieces, counts, strict=True) if any(p.startswith(s) and p != s for s in suffixes)]
    return sum(hit) / sum(counts) if sum(counts) else 0.0


@given(pieces=texts, data=st.data())
def test_equals_its_definition(pieces, data):
    n = len(pieces)
    counts = data.draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    ids = data.draw(st.lists(st.integers(0, n - 1), min_size=2, max_size=4))
    assert PrefixCollisions(pieces, counts).score(ids) == pytest.approx(by_definition(pieces, counts, ids))


def test_worked_example_of_the_paper():
    pieces = [b" in", b" the", b" therapy", b" theory", b"x"]
    assert PrefixCollisions(pieces, [5, 5, 2, 1, 7]).score([0, 1]) == pytest.approx(3 / 20)


def test_a_token_that_extends_two_suffixes_counts_once():
    assert PrefixCollisions([b"a", b"aa", b"aab"], [0, 0, 1]).score([0, 0]) == 1.0


def test_bytes_of_255_have_an_upper_bound_too():
    pieces = [b"\xff", b"\xff\xff", b"\xff\xff\x01"]
    assert PrefixCollisions(pieces, np.array([1, 1, 2])).score([0, 0]) == pytest.approx(3 / 4)
