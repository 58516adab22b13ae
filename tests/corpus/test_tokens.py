import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

import tiny
from tasc.corpus import TokenCorpus, fingerprint
from tasc.errors import DataError, FingerprintError

ROWS = st.lists(st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 3), max_size=6), max_size=12)


def rows_of(corpus):
    return [row.tolist() for row in corpus]


@given(ROWS)
def test_rows_come_back(rows):
    corpus = TokenCorpus.from_rows(rows)
    assert rows_of(corpus) == rows
    assert (len(corpus), corpus.n_tokens) == (len(rows), sum(map(len, rows)))
    assert corpus.tokens.dtype == np.int32
    assert corpus.offsets.dtype == np.int64
    np.testing.assert_array_equal(corpus.lengths, [len(row) for row in rows])


@given(ROWS)
def test_save_and_load_give_the_same_corpus(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("corpus") / "rows.safetensors"
    TokenCorpus.from_rows(rows, "sha256:x").save(path)
    loaded = TokenCorpus.load(path)
    assert rows_of(loaded) == rows
    assert loaded.fingerprint == "sha256:x"
    assert loaded.offsets.flags.aligned
    # the file is plain safetensors
    arrays = load_file(path)
    np.testing.assert_array_equal(arrays["tokens"], loaded.tokens)
    np.testing.assert_array_equal(arrays["offsets"], loaded.offsets)


@given(ROWS)
def test_unique_keeps_first_appearance_and_counts(rows):
    unique, counts = TokenCorpus.from_rows(rows, "f").unique()
    expected: dict[tuple[int, ...], int] = {}
    for row in rows:
        expected[tuple(row)] = expected.get(tuple(row), 0) + 1
    assert rows_of(unique) == [list(row) for row in expected]
    assert counts.tolist() == list(expected.values())
    assert counts.dtype == np.int64
    assert unique.fingerprint == "f"


@given(ROWS, st.randoms(use_true_random=False))
def test_take_gives_the_rows_asked_for(rows, randomness):
    corpus = TokenCorpus.from_rows(rows)
    wanted = [randomness.randrange(len(rows)) for _ in range(8)] if rows else []
    assert rows_of(corpus.take(wanted)) == [rows[i] for i in wanted]


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda row: np.array(row, np.uint64)])
@pytest.mark.parametrize("row", [[5, 2**31], [2**32 + 1], [2**40]])
def test_ids_beyond_int32_are_refused(kind, row):
    with pytest.raises(DataError, match=f"to {row[-1]} in a row, expected 0 to 2\\*\\*31 - 1"):
        TokenCorpus.from_rows([[1], kind(row)])


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
def test_rows_of_all_kinds_are_the_same_rows(dtype):
    rows = [[5, 6, 7], [], [2000, 1]]
    arrays = TokenCorpus.from_rows(np.array(row, dtype) for row in rows)
    lists = TokenCorpus.from_rows([rows[0], range(0), tuple(rows[2])])
    strided = TokenCorpus.from_rows(np.repeat(np.array(row, dtype), 2)[::2] for row in rows)
    for corpus in (arrays, lists, strided):
        assert (corpus.tokens.dtype, corpus.tokens.tolist()) == (np.int32, [5, 6, 7, 2000, 1])
        assert corpus.lengths.tolist() == [3, 0, 2]
    assert TokenCorpus.from_rows([]).n_tokens == 0


def test_rows_are_views_and_indices_are_checked():
    corpus = TokenCorpus.from_rows([[1], [2, 3]])
    assert np.shares_memory(corpus[1], corpus.tokens)
    assert corpus[-1].tolist() == [2, 3]
    for row in (2, -3):
        with pytest.raises(IndexError, match=f"row {row} of a corpus of 2 rows"):
            corpus[row]


@pytest.mark.parametrize("kind", tiny.TOKENIZERS)
@pytest.mark.parametrize("batch_size", [1, 4, 1024])
def test_encode_in_memory_and_streamed_agree(tmp_path, kind, batch_size):
    tokenizer = tiny.TOKENIZERS[kind]()
    texts = [*tiny.TEXTS, "", "a"]
    done = []
    streamed = TokenCorpus.encode(
        iter(texts), tokenizer, path=tmp_path / "a", batch_size=batch_size, progress=done.append
    )
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert rows_of(streamed) == expected
    assert rows_of(TokenCorpus.encode(texts, tokenizer, batch_size=batch_size)) == expected
    assert isinstance(streamed.tokens.base, np.memmap)
    assert streamed.fingerprint == fingerprint(tokenizer)
    assert sum(done) == len(texts)
    assert len(done) == -(-len(texts) // batch_size)


def test_encode_never_cuts_or_pads():
    tokenizer = tiny.byte_level_bpe()
    tokenizer.backend_tokenizer.enable_truncation(2)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    corpus = TokenCorpus.encode(tiny.TEXTS, tokenizer)
    assert [tokenizer.decode(row) for row in corpus] == list(tiny.TEXTS)


def test_encode_of_nothing(tmp_path):
    tokenizer = tiny.byte_level_bpe()
    assert len(TokenCorpus.encode([], tokenizer)) == 0
    assert len(TokenCorpus.encode([], tokenizer, path=tmp_path / "a")) == 0


def test_a_failing_build_leaves_no_file(tmp_path):
    def texts():
        yield from tiny.TEXTS
        raise RuntimeError("source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        TokenCorpus.encode(texts(), tiny.byte_level_bpe(), path=tmp_path / "a", batch_size=2)
    assert list(tmp_path.iterdir()) == []


def test_another_tokenizer_is_refused_with_both_fingerprints():
    corpus = TokenCorpus.from_rows([[1]], "sha256:mine")
    corpus.require("sha256:mine")
    with pytest.raises(FingerprintError, match="sha256:mine, used with sha256:other; encode it again"):
        corpus.require("sha256:other")


@pytest.mark.parametrize(
    ("tokens", "offsets", "reason"),
    [
        (np.zeros(2, np.int64), np.array([0, 2]), "tokens are int64"),
        (np.zeros(2, np.int32), np.array([0, 2], np.int32), "offsets int32"),
        (np.zeros((2, 1), np.int32), np.array([0, 2]), "expected \\(n_tokens,\\)"),
        (np.zeros(2, np.int32), np.empty(0, np.int64), "expected \\(n_tokens,\\)"),
        (np.zeros(2, np.int32), np.array([0, 3]), "offsets run from 0 to 3, expected 0 to 2"),
        (np.zeros(2, np.int32), np.array([1, 2]), "offsets run from 1 to 2"),
        (np.zeros(2, np.int32), np.array([0, 2, 1, 2]), "offsets fall after row 1"),
        (np.array([1, -1], np.int32), np.array([0, 2]), "token id -1 at position 1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tokens, offsets, reason):
    with pytest.raises(DataError, match=reason):
        TokenCorpus(tokens, offsets)


def rewrite(path, change):
    """Change the header of a corpus file and write it back."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode().ljust(size)
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + size :])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h.pop("offsets"), "no array 'offsets'"),
        (lambda h: h.pop("__metadata__"), "not that of a token corpus"),
        (lambda h: h["__metadata__"].update(version="2"), "version '2', expected 'tasc-corpus' version '1'"),
        (lambda h: h["__metadata__"].update(fingerprint=1), "version '1'"),
        (lambda h: h["tokens"].update(dtype="F32"), "'tokens' does not fit"),
        (lambda h: h["tokens"].update(shape=[10**12]), "'tokens' does not fit"),
        (lambda h: h["tokens"].update(shape=[10**12], data_offsets=[0, 4 * 10**12]), "'tokens' does not fit"),
        (lambda h: h["tokens"].update(shape=[-2], data_offsets=[8, 0]), "'tokens' does not fit"),
        (lambda h: h["offsets"].update(shape=[2.0]), "no array 'offsets'"),
        (lambda h: h.update(offsets=[1]), "no array 'offsets'"),
        (lambda h: h["offsets"].update(data_offsets=[0, 24]), "not a usable token corpus"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path, change, reason):
    path = tmp_path / "a"
    TokenCorpus.from_rows([[5, 6, 7], [8, 9, 10]]).save(path)
    rewrite(path, change)
    with pytest.raises(DataError, match=reason):
        TokenCorpus.load(path)


def test_random_damage_gives_a_clear_error_or_a_corpus_that_is_safe_to_read(tmp_path):
    path, randomness = tmp_path / "a", random.Random(0)
    TokenCorpus.from_rows([[1, 2, 3], [4], []], "f").save(path)
    raw = path.read_bytes()
    refused = 0
    for trial in range(300):
        damaged = bytearray(raw)
        if trial % 3 == 0:
            damaged = damaged[: randomness.randrange(len(raw))]
        elif trial % 3 == 1:
            damaged[randomness.randrange(250)] ^= 1 << randomness.randrange(8)
        else:
            damaged[-1 - randomness.randrange(48)] ^= 1 << randomness.randrange(8)
        path.write_bytes(bytes(damaged))
        try:
            corpus = TokenCorpus.load(path)
        except DataError:
            refused += 1
        else:
            assert sum(len(row) for row in corpus) == corpus.n_tokens
            assert corpus.tokens.min(initial=0) >= 0
    assert refused > 150


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        TokenCorpus.load(tmp_path / "none")
