"""The external corpus for SGLang: lines as its reader takes them, their order, and what is refused."""

import json

import pytest
from tokenizers import normalizers

from tasc.corpus import TokenCorpus, fingerprint
from tasc.draft import Drafter, Options, Origin
from tasc.errors import DataError, FingerprintError, OptionError
from tasc.export import export_corpus, sglang
from tiny import TOKENIZERS, byte_level_bpe

OFTEN, TWICE, ONCE, OTHER = "lights off: kitchen", "tabs\tand\nlines, Zürich 東京", "play the news", "play the beatles"
TEXTS = [TWICE, ONCE, OFTEN, OTHER, OFTEN, TWICE, OFTEN]


def drafter_of(tokenizer, texts=TEXTS, /, *, rows=(), options=None, **origin) -> Drafter:
    corpus = TokenCorpus.encode(texts, tokenizer)
    return Drafter.build(
        TokenCorpus.from_rows([*corpus, *rows]),
        eos_id=tokenizer.eos_token_id,
        vocab_size=len(tokenizer),
        options=options or Options(preset="paper"),
        origin=Origin(**({"fingerprint": fingerprint(tokenizer)} | origin)),
    )


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_like_sglang(path, tokenizer, max_tokens):
    """What `iter_external_corpus_chunks` of SGLang checks and counts; its number of tokens."""
    total = 0
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file):
            record = json.loads(line)
            assert isinstance(record, str)
            ids = tokenizer.encode(record, add_special_tokens=False)
            assert ids
            total += len(ids) + (number > 0)
            assert total <= max_tokens
    return total


@pytest.mark.parametrize("make", TOKENIZERS.values(), ids=TOKENIZERS.keys())
def test_sglang_reads_the_rows_back(tmp_path, make):
    tokenizer, path = make(), tmp_path / "corpus.jsonl"
    texts = [text for text in TEXTS if text != TWICE or make is byte_level_bpe]  # others drop or replace what is in it
    drafter = drafter_of(tokenizer, texts)
    report = export_corpus(drafter, path, tokenizer=tokenizer)
    read = {tuple(tokenizer.encode(line, add_special_tokens=False)) for line in lines_of(path)}
    assert read == {tuple(row.tolist()) for row in drafter.index.outputs()}
    assert report["counts"]["changed"] == report["counts"]["left_out"] == 0
    assert report["counts"]["tokens"] == read_like_sglang(path, tokenizer, sglang.MAX_TOKENS)


def test_each_output_once_the_most_frequent_last(tmp_path):
    tokenizer, path = byte_level_bpe(), tmp_path / "corpus.jsonl"
    report = export_corpus(drafter_of(tokenizer), path, tokenizer=tokenizer)
    assert lines_of(path) == [OTHER, ONCE, TWICE, OFTEN]
    assert {key: report["counts"][key] for key in ("outputs", "distinct", "lines")} == {
        "outputs": 7, "distinct": 4, "lines": 4,
    }  # fmt: skip


def test_counts_travel_as_repeated_lines(tmp_path):
    tokenizer, path = byte_level_bpe(), tmp_path / "corpus.jsonl"
    report = export_corpus(drafter_of(tokenizer), path, tokenizer=tokenizer, repeats=True)
    assert lines_of(path) == [OTHER, ONCE, TWICE, TWICE, OFTEN, OFTEN, OFTEN]
    assert report["counts"]["lines"] == 7
    assert report["counts"]["tokens"] == read_like_sglang(path, tokenizer, sglang.MAX_TOKENS)


def test_no_end_token_and_no_line_that_says_nothing(tmp_path):
    tokenizer, path = byte_level_bpe(), tmp_path / "corpus.jsonl"
    drafter = drafter_of(tokenizer, ["", "a", *TEXTS])
    assert drafter.index.count([tokenizer.eos_token_id]) == 9
    export_corpus(drafter, path, tokenizer=tokenizer)
    assert sorted(lines_of(path)) == sorted({*TEXTS})
    assert str(tokenizer.eos_token) not in path.read_text(encoding="utf-8")
    with pytest.raises(DataError, match="no output of 2 tokens"):
        export_corpus(drafter_of(tokenizer, ["a"]), path, tokenizer=tokenizer)
    assert sorted(lines_of(path)) == sorted({*TEXTS})


def test_a_row_that_is_read_back_otherwise_stays_and_is_counted(tmp_path):
    tokenizer, path = byte_level_bpe(), tmp_path / "corpus.jsonl"
    spelt = [tokenizer.convert_tokens_to_ids(letter) for letter in "theta"]
    assert tokenizer.encode("theta") != spelt
    report = export_corpus(drafter_of(tokenizer, rows=[spelt]), path, tokenizer=tokenizer, repeats=True)
    assert "theta" in lines_of(path)
    assert (report["counts"]["changed"], report["counts"]["left_out"]) == (1, 0)
    assert report["counts"]["tokens"] == read_like_sglang(path, tokenizer, sglang.MAX_TOKENS)


def test_special_tokens_within_a_row_stay(tmp_path):
    tokenizer, path = byte_level_bpe(), tmp_path / "corpus.jsonl"
    report = export_corpus(drafter_of(tokenizer, ["a call<|im_start|>b c"]), path, tokenizer=tokenizer)
    assert lines_of(path) == ["a call<|im_start|>b c"]
    assert report["counts"]["changed"] == 0


def test_a_row_of_which_nothing_is_read_back_is_left_out(tmp_path):
    tokenizer, path = byte_level_bpe(), tmp_path / "corpus.jsonl"
    spaces = tokenizer.encode("  ")
    tokenizer.backend_tokenizer.normalizer = normalizers.Strip()
    report = export_corpus(drafter_of(tokenizer, [ONCE], rows=[spaces * 2]), path, tokenizer=tokenizer)
    assert lines_of(path) == [ONCE]
    assert (report["counts"]["changed"], report["counts"]["left_out"]) == (0, 1)
    assert report["counts"]["tokens"] == read_like_sglang(path, tokenizer, sglang.MAX_TOKENS)


def test_parts_of_rows_are_lines_if_they_are_read_back_the_same(tmp_path):
    tokenizer, path = byte_level_bpe(), tmp_path / "corpus.jsonl"
    bits = [token for token in range(len(tokenizer)) if "\N{REPLACEMENT CHARACTER}" in tokenizer.decode([token])][:3]
    rows = [[*tokenizer.encode("the a"), *bits], [*tokenizer.encode("the b"), *bits]]
    shared = Options(preset="paper", min_rows=2)
    report = export_corpus(drafter_of(tokenizer, [OFTEN, OFTEN], rows=rows, options=shared), path, tokenizer=tokenizer)
    lines = lines_of(path)
    assert OFTEN in lines
    assert not any("\N{REPLACEMENT CHARACTER}" in line or "the a" in line or "the b" in line for line in lines)
    assert report["counts"]["changed"] == 0
    assert report["counts"]["left_out"] == 1
    torn = drafter_of(tokenizer, [], rows=[bits] * 2, options=shared)
    with pytest.raises(DataError, match="none of the drafter's rows"):
        export_corpus(torn, tmp_path / "other.jsonl", tokenizer=tokenizer)
    assert not (tmp_path / "other.jsonl").exists()


def test_flags_fit_what_sglang_checks(tmp_path, monkeypatch):
    tokenizer, path = byte_level_bpe(), tmp_path / "corpus.jsonl"
    drafter = drafter_of(tokenizer)

    def flags(**options):
        words = export_corpus(drafter, path, tokenizer=tokenizer, **options)["flags"]
        return dict(zip(words[::2], words[1::2], strict=True))

    prefix = "--speculative-ngram-"
    assert flags() == {
        "--speculative-algorithm": "NGRAM",
        "--speculative-num-draft-tokens": "12",
        f"{prefix}match-type": "PROB",
        f"{prefix}external-corpus-path": str(path),
        f"{prefix}external-sam-budget": "8",
    }
    assert flags(draft_tokens=2)[f"{prefix}external-sam-budget"] == "1"
    assert flags(draft_tokens=8, budget=7)[f"{prefix}external-sam-budget"] == "7"
    for wrong in ({"budget": 12}, {"budget": 0}, {"draft_tokens": 1}, {"draft_tokens": 4, "budget": 4}):
        with pytest.raises(OptionError, match="budget from 1 to draft_tokens - 1"):
            flags(**wrong)
    monkeypatch.setattr(sglang, "MAX_TOKENS", 5)
    limit = int(flags()[f"{prefix}external-corpus-max-tokens"])
    assert read_like_sglang(path, tokenizer, limit) == limit


def test_the_sidecar_stands_beside_and_names_the_tokenizer(tmp_path):
    tokenizer, path = byte_level_bpe(), tmp_path / "corpus.jsonl"
    report = export_corpus(drafter_of(tokenizer), path, tokenizer=tokenizer)
    assert json.loads((tmp_path / "corpus.jsonl.about.json").read_text()) == report
    assert report["tokenizer"]["fingerprint"] == fingerprint(tokenizer)
    assert report["files"]["corpus"]["file"] == "corpus.jsonl"


def test_the_tokenizer_is_the_drafters_own_or_refused(tmp_path):
    tokenizer, path = byte_level_bpe(), tmp_path / "corpus.jsonl"
    tokenizer.save_pretrained(tmp_path / "tok")
    export_corpus(drafter_of(tokenizer, tokenizer=str(tmp_path / "tok")), path)
    assert len(lines_of(path)) == 4
    with pytest.raises(OptionError, match="--tokenizer"):
        export_corpus(drafter_of(tokenizer), path)
    with pytest.raises(FingerprintError, match="drafter built for tokenizer sha256:"):
        export_corpus(drafter_of(tokenizer), path, tokenizer=byte_level_bpe(vocab_size=300))
    with pytest.raises(FingerprintError, match="n-grams of enriched"):
        export_corpus(drafter_of(tokenizer, vocabulary="enriched"), path, tokenizer=tokenizer)
