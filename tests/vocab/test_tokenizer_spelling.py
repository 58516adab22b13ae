"""Which n-grams may become tokens, how they are spelt, and which tokenizers are refused."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AddedToken, PreTrainedTokenizerFast

import tiny
from tasc.corpus import encode_batch
from tasc.errors import TokenizerError
from tasc.vocab.tokenizer import check_enrichable, speller
from tiny_tokenizers import TEXTS, byte_level, frequent_ngrams, tiny_tokenizer

FAMILIES = ("byte_level", "ignore_merges", "byte_fallback", "llama", "unigram", "t5")


def ids_of(tokenizer, *strings):
    return tuple(tokenizer.get_vocab()[string] for string in strings)


@pytest.mark.parametrize("name", FAMILIES)
def test_pieces_join_to_the_decoded_text(name):
    tokenizer = tiny_tokenizer(name)
    spell = speller(tokenizer)
    pieces = spell.pieces()
    assert len(pieces) == spell.base_size == len(tokenizer)
    for text, ids in zip(TEXTS, encode_batch(tokenizer, TEXTS), strict=True):
        if tokenizer.unk_token_id not in ids:
            assert b"".join(pieces[i] for i in ids).decode().removeprefix(" ") == tokenizer.decode(ids)
            assert spell.text(ids).split() == text.split()


@pytest.mark.parametrize("name", FAMILIES)
def test_specials_are_never_part_of_an_ngram(name):
    tokenizer = tiny_tokenizer(name)
    spell = speller(tokenizer)
    ordinary = frequent_ngrams(tokenizer, list(TEXTS), 1).ngrams[0].ids
    assert set(tokenizer.all_special_ids) <= spell.specials
    assert set(tokenizer.get_added_vocab().values()) <= spell.specials
    assert spell.spell(ordinary) is not None
    for special in spell.specials:
        assert spell.spell((*ordinary, special)) is None
        assert "special" in (spell.refusal((special, *ordinary)) or "")


@pytest.mark.parametrize("name", FAMILIES)
def test_unknown_ids_and_single_tokens_are_refused(name):
    spell = speller(tiny_tokenizer(name))
    some = next(i for i in range(spell.base_size) if i not in spell.specials)
    assert "unknown" in (spell.refusal((some, spell.base_size)) or "")
    assert "unknown" in (spell.refusal((-1, some)) or "")
    assert "two or more" in (spell.refusal((some,)) or "")


@pytest.mark.parametrize("name", FAMILIES)
def test_an_entry_of_the_base_vocabulary_is_never_added_again(name):
    tokenizer = tiny_tokenizer(name)
    spell = speller(tokenizer)
    vocab = tokenizer.get_vocab()
    longer = (s for s, i in vocab.items() if i not in spell.specials and len(s) > 2 and not s.startswith("<0x"))
    cut = ((s, s[:k], s[k:]) for s in longer for k in range(1, len(s)) if s[:k] in vocab and s[k:] in vocab)
    whole, left, right = next((s, a, b) for s, a, b in cut if not {vocab[a], vocab[b]} & spell.specials)
    assert spell.refusal((vocab[left], vocab[right])) == f"its spelling {whole!r} is in the base vocabulary"


@pytest.mark.parametrize("name", FAMILIES)
def test_the_text_of_an_ngram_is_capped(name):
    spell = speller(tiny_tokenizer(name), max_text_bytes=5)
    long = frequent_ngrams(tiny_tokenizer(name), list(TEXTS), 30)
    assert {len(spell.text(n.ids).encode()) > 5 for n in long.ngrams} >= {True}
    for ngram in long.ngrams:
        size = len(b"".join(spell.pieces()[i] for i in ngram.ids))
        assert (spell.spell(ngram.ids) is None) == (size > 5)


@given(st.lists(st.integers(0, 343), min_size=2, max_size=6))
def test_byte_level_spells_any_bytes_and_refuses_only_for_a_reason(ids):
    tokenizer = tiny_tokenizer("byte_level")
    spell = speller_of_byte_level()
    spelling, refusal = spell.spell(ids), spell.refusal(ids)
    assert (spelling is None) != (refusal is None)
    if spelling is not None:
        assert spelling == "".join(tokenizer.convert_ids_to_tokens(ids))


@cache
def speller_of_byte_level():
    return speller(tiny_tokenizer("byte_level"))


def test_byte_level_takes_half_characters():
    tokenizer = tiny_tokenizer("byte_level")
    spell = speller(tokenizer)
    first, second, third = encode_batch(tokenizer, ["鿿"])[0]
    assert spell.spell((first, second)) is not None
    assert spell.text((first, second)).endswith("�")
    assert spell.spell((second, third)) is not None


@pytest.mark.parametrize("name", ["byte_fallback", "llama"])
def test_byte_fallback_takes_whole_characters_only(name):
    tokenizer = tiny_tokenizer(name)
    spell = speller(tokenizer)
    e0, b8, aa = ids_of(tokenizer, "<0xE0>", "<0xB8>", "<0xAA>")  # one Thai character
    space, x = ids_of(tokenizer, "▁", "x")
    assert "inside a character" in (spell.refusal((e0, b8)) or "")
    assert "inside a character" in (spell.refusal((b8, aa, x)) or "")
    assert "inside a character" in (spell.refusal((x, e0, space)) or "")
    # alone it would be an entry of one character, which the encoder looks up first
    assert "one character" in (spell.refusal((e0, b8, aa)) or "")
    assert spell.spell((e0, b8, aa, x)) == "สx"
    assert spell.spell((x, space, e0, b8, aa)) == "x▁ส"
    assert spell.spell((e0, b8, aa, e0, b8, aa)) == "สส"
    assert spell.text((x, space, e0, b8, aa)) == "x ส"


def test_a_look_alike_of_a_byte_piece_is_refused():
    vocab = {name: i for i, name in enumerate(["<unk>", "<0x", "zz", ">", "▁", "<0x41>", "a", "b"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    spell = speller(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"))
    assert "decoded as a byte" in (spell.refusal((1, 2, 3)) or "")


def test_metaspace_decoders_drop_metaspaces_of_the_first_token_so_inner_ones_are_spaces():
    tokenizer = tiny_tokenizer("unigram")
    spell = speller(tokenizer)
    space, i, n = ids_of(tokenizer, "▁", "i", "n")
    assert spell.spell((space, i, space, n)) == "▁i n"
    assert spell.spell((i, space, n)) == "i n"
    assert speller(tiny_tokenizer("llama")).spell(ids_of(tiny_tokenizer("llama"), "▁", "i", "▁", "n")) == "▁i▁n"


def test_with_ignore_merges_a_whole_pre_token_is_refused():
    text = " zebra"
    for name, refused in (("ignore_merges", True), ("byte_level", False)):
        tokenizer = tiny_tokenizer(name)
        ids = encode_batch(tokenizer, [text])[0]
        assert len(ids) > 1
        reason = speller(tokenizer).refusal(ids)
        assert (reason is not None and "pre-token" in reason) == refused
        assert speller(tokenizer).spell(encode_batch(tokenizer, [text + " x"])[0]) is not None


def test_with_ignore_merges_white_space_that_is_a_pre_token_only_before_a_word_is_refused():
    tokenizer = tiny_tokenizer("ignore_merges")
    ids = encode_batch(tokenizer, ["\t\t\t"])[0]
    assert len(ids) == 3
    assert "pre-token" in (speller(tokenizer).refusal(ids) or "")


def test_runs_of_white_space_that_are_added_tokens_are_ordinary_text():
    tokenizer = byte_level()
    tokenizer.add_tokens([AddedToken("   ", normalized=False), AddedToken("\n\n", lstrip=True)])
    blank, stripping, x = ids_of(tokenizer, "   ", "\n\n", "x")
    spell = speller(tokenizer)
    assert spell.spell((blank, x)) == "ĠĠĠx"
    assert spell.spell((stripping, x)) is None


def test_added_tokens_style_needs_text_that_add_tokens_can_hold():
    tokenizer = tiny_tokenizer("byte_level")
    spell = speller(tokenizer, style="added-tokens")
    first, second, third = encode_batch(tokenizer, ["鿿"])[0]
    assert "UTF-8" in (spell.refusal((first, second)) or "")
    assert spell.spell((first, second, third)) == "鿿"
    assert "base vocabulary" in (spell.refusal(ids_of(tokenizer, "i", "n")) or "")


def bpe(*, decoder: Any = decoders.ByteLevel(), byte_pre_tokenizer=True, **options):  # noqa: B008
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "▁": 2}, merges=[], **options))
    if byte_pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    if decoder is not None:
        tokenizer.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def fast(model, decoder=None):
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoder
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


REFUSED = {
    "WordPiece": (
        lambda: fast(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"), decoders.WordPiece()),
        "WordPiece",
    ),
    "WordLevel": (lambda: fast(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]")), "WordLevel"),
    "prefix": (lambda: bpe(continuing_subword_prefix="##"), "continuing_subword_prefix"),
    "suffix": (lambda: bpe(end_of_word_suffix="</w>"), "end_of_word_suffix"),
    "dropout": (lambda: bpe(dropout=0.1), "at random"),
    "no decoder": (lambda: bpe(decoder=None), "without a decoder"),
    "other decoder": (lambda: bpe(decoder=decoders.BPEDecoder()), "BPEDecoder"),
    "byte-level decoder only": (lambda: bpe(byte_pre_tokenizer=False), "byte-level but the encoder"),
    "mixed decoder": (
        lambda: bpe(decoder=decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])),
        "plain ByteLevel",
    ),
    "other metaspace": (lambda: bpe(decoder=decoders.Metaspace(replacement="_")), "metaspace '_'"),
    "other replacement": (lambda: bpe(decoder=decoders.Replace("_", " ")), "that replaces"),
    "strip each token": (
        lambda: bpe(decoder=decoders.Sequence([decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)])),
        "strips every token",
    ),
    "ignore_merges without words": (
        lambda: bpe(ignore_merges=True, byte_pre_tokenizer=False, decoder=decoders.Metaspace()),
        "no pre-tokenizer",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_tokenizer_that_cannot_be_enriched_safely_is_refused_with_the_reason(kind):
    make, reason = REFUSED[kind]
    tokenizer = make()
    for refuse in (check_enrichable, speller):
        with pytest.raises(TokenizerError, match=reason) as caught:
            refuse(tokenizer)
        assert "\n" not in str(caught.value)


def test_a_slow_tokenizer_is_refused():
    from transformers import ByT5Tokenizer

    with pytest.raises(TokenizerError, match="slow tokenizer"):
        check_enrichable(ByT5Tokenizer())  # pyright: ignore[reportArgumentType]


def test_a_tokenizer_with_a_step_written_in_python_is_refused():
    class Words:
        def pre_tokenize(self, text):
            text.split(lambda _, part: [part])

    wrapped = tiny.byte_level_bpe()
    wrapped.backend_tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Words())
    with pytest.raises(TokenizerError, match="cannot be saved"):
        check_enrichable(wrapped)


def unigram_of(pieces, *, metaspace=True):
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *pieces], unk_id=0))
    tokenizer.decoder = decoders.Metaspace()
    if metaspace:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def test_a_unigram_tokenizer_with_tokens_outside_its_vocabulary_is_refused():
    late = tiny.unigram()
    late.add_special_tokens({"cls_token": "<cls>"})
    with pytest.raises(TokenizerError, match="such as '<cls>'"):
        check_enrichable(late)
    with pytest.raises(TokenizerError, match="does not write spaces"):
        check_enrichable(unigram_of([("a", -1.0)], metaspace=False))


def test_a_unigram_ngram_whose_parts_are_too_rare_is_refused_unless_it_has_a_space():
    spell = speller(unigram_of([("▁", -2.0), ("a", -2.0), ("b", -9.0), ("z", -12.0)]))
    space, a, b, z = 1, 2, 3, 4
    assert spell.spell((a, b)) == "ab"  # -11 against the -12 of its entry
    assert "rare" in (spell.refusal((b, b)) or "")  # -18
    assert "rare" in (spell.refusal((space, z)) or "")
    assert spell.spell((b, space, b)) == "b b"


def test_two_tokens_with_one_id_are_refused():
    tokenizer = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "c": 3}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    tokenizer.add_tokens(["new"])  # `tokenizers` counts entries, so this becomes 3 as well
    with pytest.raises(TokenizerError, match="share the id 3"):
        check_enrichable(PreTrainedTokenizerFast(tokenizer_object=tokenizer))
