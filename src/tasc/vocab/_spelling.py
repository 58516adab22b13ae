"""How an n-gram of base ids is spelt as one entry of a tokenizer's vocabulary, and which n-grams may not be.

An entry must decode to exactly what its parts decode to, and must never be chosen when a prompt is encoded. Both depend
on the tokenizer's family (`_families`). This file reads a tokenizer and never changes it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tasc.vocab._backend import added_tokens, flat, read_backend, token_strings
from tasc.vocab._families import METASPACE, Family, PlainSpaces, check_model, family_of, plain_spaces, special_ids

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer
    from transformers import PreTrainedTokenizerFast

Style = Literal["vocabulary", "added-tokens"]

MAX_TEXT_BYTES = 255
_MARGIN = 1e-3  # in log-probability; far above what rounding moves

# a pre-token may need a neighbour to be one: "\s+(?!\S)" and digit groups look at what stands beside it
_NEIGHBOURS = ("", "a", "1", ".", " ", "\n")


def byte_alphabet() -> list[str]:
    """The character that stands for each byte in byte-level vocabularies (GPT-2, `bytes_to_unicode`)."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    table = {byte: chr(byte) for byte in plain} | {byte: chr(256 + k) for k, byte in enumerate(rest)}
    return [table[byte] for byte in range(256)]


_TO_ALPHABET = dict(enumerate(byte_alphabet()))
_ALPHABET = frozenset(_TO_ALPHABET.values())
_FROM_ALPHABET = {ord(character): byte for byte, character in _TO_ALPHABET.items()}


@dataclass(frozen=True, slots=True)
class Speller:
    """Judges and spells n-grams of one base tokenizer; made by `speller`. Ids in, one string out.

    Attributes:
        family: how this tokenizer spells.
        style: "vocabulary", or "added-tokens" for entries that `add_tokens` can hold (the paper's way).
        base_size: 1 + the highest id that the tokenizer knows, special tokens included.
        specials: ids that no n-gram may contain (special, template and unknown tokens).
        max_text_bytes: longest text of an n-gram, in bytes of UTF-8.

    Examples:
        >>> from tasc.corpus import load_tokenizer
        >>> spell = speller(load_tokenizer("qwen2.5")).spell  # doctest: +SKIP
        >>> spell([7403, 25])  # doctest: +SKIP
        'Ġintent:'
    """

    family: Family
    style: Style
    base_size: int
    specials: frozenset[int]
    max_text_bytes: int
    _bytes: list[bytes] = field(repr=False)  # (base_size,), what each id adds to decoded text
    _strings: list[str] = field(repr=False)  # (base_size,), vocabulary entries
    _taken: frozenset[str] = field(repr=False)
    _byte_ids: frozenset[int] = field(repr=False)  # "<0x0A>" and the like
    _plain_spaces: PlainSpaces = field(repr=False)  # metaspaces that are spelt as plain spaces
    _scores: list[float] = field(repr=False)  # (base_size,) of a Unigram model, else empty
    _lowest_score: float = field(repr=False)
    _whole_words_match: "PreTokenizer | None" = field(repr=False)  # set if the model looks whole pre-tokens up

    def pieces(self) -> list[bytes]:
        """The bytes that each base id adds to decoded text, list of length `base_size`; b"" for ids that are not used."""
        return list(self._bytes)

    def text(self, ids: Sequence[int]) -> str:
        """What people read; halves of characters show as the replacement character."""
        return b"".join([self._bytes[i] for i in ids]).decode("utf-8", "replace")

    def spell(self, ids: Sequence[int]) -> str | None:
        """The vocabulary entry for this n-gram of base ids, or None if it may not become a token."""
        return self._judge(ids)[0]

    def refusal(self, ids: Sequence[int]) -> str | None:
        """Why this n-gram may not become a token, or None if it may."""
        return self._judge(ids)[1]

    def _judge(self, ids: Sequence[int]) -> tuple[str | None, str | None]:
        if len(ids) < 2:
            return None, "an n-gram has two or more tokens"
        for i in ids:
            if i in self.specials or not 0 <= i < self.base_size:
                return None, f"token {i} is special or unknown"
        data = b"".join([self._bytes[i] for i in ids])
        if len(data) > self.max_text_bytes:
            return None, f"its text has {len(data)} bytes, at most {self.max_text_bytes} are safe"
        if self.style == "added-tokens":
            return self._judge_text(data)
        whole = self.family == "byte-level"
        spelling = "".join([self._strings[i] for i in ids]) if whole else self._spell_metaspace(ids)
        if spelling is None:
            return None, "it ends or begins inside a character, which this tokenizer cannot spell"
        if len(spelling) < 2:
            return None, "it spells one character, which prompts would be encoded with"
        if self._byte_ids and len(spelling) == 6 and spelling.startswith("<0x") and spelling.endswith(">"):
            return None, f"its spelling {spelling!r} would be decoded as a byte"
        if self._is_taken(spelling):
            return None, f"its spelling {spelling!r} is in the base vocabulary"
        if self._scores and " " not in spelling and self._could_win(ids):
            return None, "its tokens are so rare that a Unigram model would encode prompts with it"
        if self._whole_words_match is not None and self._is_pre_token(data, spelling):
            return None, f"its spelling {spelling!r} is a whole pre-token, which prompts would be encoded with"
        return spelling, None

    def _judge_text(self, data: bytes) -> tuple[str | None, str | None]:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return None, "it is not valid UTF-8 on its own, which add_tokens cannot hold"
        # add_tokens silently returns the old id for these
        if text in self._taken:
            return None, f"its text {text!r} is in the base vocabulary"
        return text, None

    def _spell_metaspace(self, ids: Sequence[int]) -> str | None:
        strings = [self._strings[i] for i in ids]
        if not self._byte_ids.isdisjoint(ids):
            strings = _join_bytes(strings, [i in self._byte_ids for i in ids], [self._bytes[i] for i in ids])
            if strings is None:
                return None
        if self._plain_spaces == "none":
            return "".join(strings)
        head = "" if self._plain_spaces == "all" or ids[0] in self._byte_ids else strings.pop(0)
        return head + "".join(strings).replace(METASPACE, " ")

    def _is_taken(self, spelling: str) -> bool:
        plain = spelling if self._plain_spaces == "none" else spelling.replace(" ", METASPACE)
        return spelling in self._taken or plain in self._taken

    def _could_win(self, ids: Sequence[int]) -> bool:
        """Its entry gets the lowest score of the vocabulary; it never wins if writing it with its parts scores higher."""
        if not self._byte_ids.isdisjoint(ids):
            return True  # their characters are unknown to the model, which scores them lower still
        return sum([self._scores[i] for i in ids]) < self._lowest_score + _MARGIN

    def _is_pre_token(self, data: bytes, spelling: str) -> bool:
        assert self._whole_words_match is not None
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            return False  # pre-tokenizers cut between characters
        for before, after in _contexts():
            found = self._whole_words_match.pre_tokenize_str(before + text + after)
            if any(pre_token == spelling for pre_token, _ in found):
                return True
        return False


def speller(
    tokenizer: "PreTrainedTokenizerFast", *, style: Style = "vocabulary", max_text_bytes: int = MAX_TEXT_BYTES
) -> Speller:
    """Read from a tokenizer how its n-grams are spelt.

    Args:
        tokenizer: a fast base tokenizer.
        style: "vocabulary" (entries without merges) or "added-tokens" (the paper's way, for comparison).
        max_text_bytes: longest text of an n-gram, in bytes of UTF-8.

    Raises:
        TokenizerError: this tokenizer cannot be enriched safely; the message says why.
    """
    return read_speller(tokenizer, read_backend(tokenizer), style, max_text_bytes)


def read_speller(
    tokenizer: "PreTrainedTokenizerFast", state: dict[str, Any], style: Style, max_text_bytes: int = MAX_TEXT_BYTES
) -> Speller:
    """`speller` for a tokenizer that was serialised already, which takes a second for a large vocabulary."""
    family = family_of(state)
    added = added_tokens(tokenizer)
    strings = token_strings(state, added)
    check_model(state, family, strings)
    kinds = flat(state["decoder"], "decoders")
    byte_ids = _byte_ids(strings) if any(d["type"] == "ByteFallback" for d in kinds) else frozenset()
    scores = [score for _, score in state["model"]["vocab"]] if family == "unigram" else []
    decoded = [_decoded(string, i in byte_ids, family) for i, string in enumerate(strings)]
    return Speller(
        family=family,
        style=style,
        base_size=len(strings),
        specials=special_ids(tokenizer, state, strings, added),
        max_text_bytes=max_text_bytes,
        _bytes=decoded,
        _strings=[_spelt(string, data, family) for string, data in zip(strings, decoded, strict=True)],
        _taken=frozenset(string for string in strings if string),
        _byte_ids=byte_ids,
        _plain_spaces=plain_spaces(family, [decoder["type"] for decoder in kinds]),
        _scores=scores,
        _lowest_score=min(scores, default=0.0),
        _whole_words_match=tokenizer.backend_tokenizer.pre_tokenizer if state["model"].get("ignore_merges") else None,
    )


def check_enrichable(tokenizer: "PreTrainedTokenizerFast") -> None:
    """Refuse a tokenizer whose vocabulary cannot take n-grams without changing how prompts are encoded.

    Raises:
        TokenizerError: with the reason.
    """
    state = read_backend(tokenizer)
    check_model(state, family_of(state), token_strings(state, added_tokens(tokenizer)))


def _byte_ids(strings: list[str | None]) -> frozenset[int]:
    pieces = {f"<0x{byte:02X}>" for byte in range(256)}
    return frozenset(i for i, string in enumerate(strings) if string in pieces)


def _decoded(string: str | None, is_byte: bool, family: Family) -> bytes:
    if not string:
        return b""
    if is_byte:
        return bytes([int(string[3:5], 16)])
    if family != "byte-level":
        return string.replace(METASPACE, " ").encode("utf-8")
    # the decoder takes an entry with a character outside the alphabet as it stands
    return (
        string.translate(_FROM_ALPHABET).encode("latin-1") if _ALPHABET.issuperset(string) else string.encode("utf-8")
    )


def _spelt(string: str | None, data: bytes, family: Family) -> str:
    if not string or family != "byte-level" or _ALPHABET.issuperset(string):
        return string or ""
    return data.decode("latin-1").translate(_TO_ALPHABET)


def _join_bytes(strings: list[str], is_byte: list[bool], data: list[bytes]) -> list[str] | None:
    """Turn runs of byte pieces into their characters; None where a run is not whole characters."""
    joined: list[str] = []
    run = b""
    for string, byte, raw in zip([*strings, ""], [*is_byte, False], [*data, b""], strict=True):
        if byte:
            run += raw
            continue
        try:
            characters = run.decode("utf-8")
        except UnicodeDecodeError:
            return None
        if METASPACE in characters:
            return None  # would be decoded to a space
        joined += [characters] * bool(run) + [string]
        run = b""
    return joined


def _contexts() -> Iterator[tuple[str, str]]:
    yield from ((before, after) for before in _NEIGHBOURS for after in _NEIGHBOURS)
