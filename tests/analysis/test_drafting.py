from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasc.analysis import estimate_drafting
from tasc.corpus import TokenCorpus

ROWS = st.lists(st.lists(st.integers(0, 4), max_size=12), min_size=1, max_size=10)
END = 99


def replay(train, held_out, n_max, chain):
    """The drafter by the book: tables of counts, then token by token decoding with draft and verification."""
    tables = defaultdict(Counter)
    for row in train:
        for i, token in enumerate([*row, END]):
            for n in range(1, n_max):
                if i >= n:
                    tables[tuple(row[i - n : i])][token] += 1

    def predict(context):
        for n in range(n_max - 1, 0, -1):
            table = tables.get(tuple(context[-n:])) if len(context) >= n else None
            if table:
                return min(table, key=lambda token: (-table[token], token))
        return None

    tokens = passes = hits = 0
    for row in held_out:
        target = [*row, END]
        hits += sum(predict(target[:i]) == target[i] for i in range(1, len(target)))
        tokens += len(target) - 1
        position = 1
        while position < len(target):
            context = target[:position]
            for _ in range(chain):
                token = predict(context)
                if position >= len(target) or token != target[position]:
                    break
                context.append(token)
                position += 1
            position += 1
            passes += 1
    return (tokens / passes if passes else 1.0), (hits / tokens if tokens else 0.0)


@given(ROWS, ROWS, st.integers(2, 5), st.integers(1, 6))
def test_equals_a_replay_by_the_book(train, held_out, n_max, chain):
    found = estimate_drafting(TokenCorpus.from_rows(train), TokenCorpus.from_rows(held_out), n_max=n_max, chain=chain)
    tokens_per_pass, accuracy = replay(train, held_out, n_max, chain)
    assert found.tokens_per_pass == pytest.approx(tokens_per_pass)
    assert found.top1_accuracy == pytest.approx(accuracy)
    assert (found.n_max, found.chain) == (n_max, chain)


def test_known_outputs_are_drafted_whole_and_unknown_ones_not_at_all():
    known = TokenCorpus.from_rows([list(range(30))])
    # 29 tokens and EOS after the first; a pass gives 10 drafted tokens and one of its own
    assert estimate_drafting(known, known).tokens_per_pass == pytest.approx(30 / 3)
    unknown = TokenCorpus.from_rows([list(range(100, 130))])
    found = estimate_drafting(known, unknown)
    assert (found.tokens_per_pass, found.top1_accuracy) == (1.0, 0.0)


def test_progress_counts_every_order():
    done = []
    corpus = TokenCorpus.from_rows([[1, 2]])
    estimate_drafting(corpus, corpus, n_max=5, advance=done.append)
    assert done == [1, 1, 1, 1]


@pytest.mark.slow
def test_reference_figures(shared):
    """Close to the corpus half of TASC-spec on massive_en, measured independently: 3.00 with the prompt drafter."""
    from tasc.corpus import load_tasks, load_tokenizer

    tokenizer = load_tokenizer(shared / "tokenizers" / "qwen2.5")
    train, test = (
        TokenCorpus.encode(load_tasks(shared / "data" / "massive_en", split=split).completions, tokenizer)
        for split in ("train", "test")
    )
    assert estimate_drafting(train, test).tokens_per_pass == pytest.approx(3.0, rel=0.05)
