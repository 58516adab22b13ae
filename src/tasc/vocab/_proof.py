"""Prove that an enriched tokenizer encodes prompts as its base does, and that its n-grams decode to their parts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from tasc.errors import TokenizerError
from tasc.vocab._backend import added_tokens
from tasc.vocab._spelling import Style

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_BATCH = 512

# what breaks tokenizers: scripts, combining marks, white space of all widths, code, mark-up, look-alikes of special tokens
NASTY_TEXTS = (
    "",
    " ",
    "\n",
    "  \t \r\n\n   ",
    "\u00a0\u2003\u3000\u200b\ufeff",
    "café cafe\u0301 CAFÉ naïve Straße ﬁn Å Å",
    "日本語のテキスト、中文文本。한국어 텍스트",
    "ภาษาไทย हिन्दी বাংলা ខ្មែរ አማርኛ עִברִית العربية",
    "👍🏽👨‍👩‍👧‍👦🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇩🇪🇫🇷 ☃️",
    "def f(x):\n    return {'a': [1, 2.5e-10, 0xFF]}  # comment\n\n\nclass A: pass",
    "SELECT * FROM t WHERE a >= 10 AND b != 'x';--",
    '<html><body class="x">&amp;&nbsp;</body></html> <b>bold</b><br/>',
    "<|im_start|>user\n<|im_end|> <s></s> [INST] <pad> <unk> <0x0A> <0x41>",
    "< |im_end| > <|im _end|> <|im_end <|endoftext",
    "don't I'LL we've 'tis rock 'n' roll's",
    "3.14159 1,000,000 12/31/1999 +49 (0)30 123456",
    "aaaaaaaaaaaaaaaaaaaa !!!!!!!! ======== --------",
    "a▁b ▁▁ Ġthe Ċ ▁in▁the Ġin",
    "\u0000\u0001\u001b[0m\u007f \ud7ff\ue000\ufffd\U0010ffff",
    "x" * 600,
    "word " * 120,
)


@dataclass(frozen=True, slots=True)
class Drift:
    """How many texts are encoded differently by an enriched tokenizer than by its base.

    Attributes:
        n_texts: texts compared.
        n_changed: texts whose ids differ.
        examples: the first few of them, as (text, base ids, enriched ids).
        style: how the n-grams were added; 0 changed texts are promised for "vocabulary" only.
    """

    n_texts: int
    n_changed: int
    examples: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    style: Style = "vocabulary"

    @property
    def ratio(self) -> float:
        """Share of texts that changed, 0 if there were none."""
        return self.n_changed / self.n_texts if self.n_texts else 0.0

    def describe(self) -> str:
        """One line for people."""
        first = f"; first: {self.examples[0][0][:80]!r}" if self.examples else ""
        return f"{self.n_changed} of {self.n_texts} texts are encoded differently (style {self.style}){first}"


def check_prompts(
    base: "PreTrainedTokenizerFast",
    enriched: "PreTrainedTokenizerFast",
    texts: Iterable[str],
    *,
    style: Style = "vocabulary",
    max_examples: int = 5,
) -> Drift:
    """Encode every text with both tokenizers, with special tokens, and compare the ids.

    Args:
        base: the tokenizer without n-grams.
        enriched: the same with n-grams.
        texts: prompts; read once, in batches.
        style: how the n-grams were added, for the record.
        max_examples: changed texts to keep.
    """
    return _compare(base, enriched, texts, style, max_examples, add_special_tokens=True)


def prove(
    base: "PreTrainedTokenizerFast",
    enriched: "PreTrainedTokenizerFast",
    expansions: Sequence[Sequence[int]],
    spellings: Sequence[str],
    texts: Iterable[str] = (),
) -> Drift:
    """Check all that an enriched tokenizer promises.

    Returns:
        The drift over `texts`, the n-grams' own texts, their concatenations and a fixed sample of odd texts: always 0.

    Raises:
        TokenizerError: a promise is broken; the message says which.
    """
    _check_ids(base, enriched, spellings)
    _check_decoding(enriched, expansions, len(enriched) - len(spellings))
    hard = list(hard_texts(base, expansions))
    total = Drift(0, 0)
    for sample, options in (
        (hard, {"add_special_tokens": True}),
        (hard, {"add_special_tokens": False, "split_special_tokens": True}),
        (texts, {"add_special_tokens": True}),
    ):
        drift = _compare(base, enriched, sample, "vocabulary", 5, **options)
        if drift.n_changed:
            raise TokenizerError(f"{drift.describe()}; {_suspect(base, enriched)}; nothing was written")
        total = Drift(total.n_texts + drift.n_texts, 0)
    return total


def _suspect(base: "PreTrainedTokenizerFast", enriched: "PreTrainedTokenizerFast") -> str:
    old, new = type(base).__name__, type(enriched).__name__
    if old == new:
        return "n-grams must not change prompts, please report it"
    return (
        f"the written files were loaded as {new}, not {old}: transformers goes by the config.json beside them, "
        "so load the base tokenizer from a folder with the same one"
    )


def hard_texts(base: "PreTrainedTokenizerFast", expansions: Sequence[Sequence[int]]) -> Iterator[str]:
    """The n-grams' texts alone, beside white space, glued to each other, and texts that are odd for any tokenizer."""
    yield from NASTY_TEXTS
    specials = [token.content for token in added_tokens(base).values()]
    yield from specials
    yield " ".join(specials) + "".join(specials)
    ngrams = base.backend_tokenizer.decode_batch([list(ids) for ids in expansions], skip_special_tokens=False)
    for i, text in enumerate(ngrams):
        neighbour = ngrams[i - 1]
        yield from (text, f" {text}", f"{text} ", f"a{text}z", f"\n{text}\n", text + text, text + neighbour)
        yield f"{neighbour} {text}".title()
    yield "".join(ngrams)
    yield " ".join(ngrams)


def _compare(
    base: "PreTrainedTokenizerFast",
    enriched: "PreTrainedTokenizerFast",
    texts: Iterable[str],
    style: Style,
    max_examples: int,
    **options: Any,
) -> Drift:
    n_texts = n_changed = 0
    examples: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
    rest = iter(texts)
    while batch := list(islice(rest, _BATCH)):
        n_texts += len(batch)
        pairs = zip(batch, _encode(base, batch, options), _encode(enriched, batch, options), strict=True)
        changed = [(text, tuple(old), tuple(new)) for text, old, new in pairs if old != new]
        n_changed += len(changed)
        examples += changed[: max_examples - len(examples)]
    return Drift(n_texts, n_changed, tuple(examples), style)


def _encode(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str], options: dict[str, Any]) -> list[list[int]]:
    """Through transformers' own front, as users call it; nothing is cut or padded."""
    encoded = tokenizer(
        list(texts), truncation=False, padding=False, return_attention_mask=False, verbose=False, **options
    )
    return encoded["input_ids"]  # pyright: ignore[reportReturnType]


def _check_ids(base: "PreTrainedTokenizerFast", enriched: "PreTrainedTokenizerFast", spellings: Sequence[str]) -> None:
    old, new = base.get_vocab(), enriched.get_vocab()
    moved = [string for string, i in old.items() if new.get(string) != i]
    if moved:
        raise TokenizerError(f"{len(moved)} base tokens lost their id, such as {moved[0]!r}; nothing was written")
    size = len(enriched) - len(spellings)
    wrong = [s for k, s in enumerate(spellings) if new.get(s) != size + k]
    if wrong or size <= max(old.values()):
        raise TokenizerError(f"{len(wrong)} n-grams did not get their ids, {len(enriched)} in all; nothing was written")
    if repr(added_tokens(base)) != repr(added_tokens(enriched)):
        raise TokenizerError("the special and added tokens changed; nothing was written")


def _check_decoding(enriched: "PreTrainedTokenizerFast", expansions: Sequence[Sequence[int]], size: int) -> None:
    """As the first token, after itself, and after its own parts; special tokens skipped, as servers do."""
    rows = [list(ids) for ids in expansions]
    merged = [probe for k in range(len(rows)) for probe in ([size + k], [size + k] * 2, rows[k] + [size + k])]
    plain = [probe for ids in rows for probe in (ids, ids * 2, ids * 2)]
    backend = enriched.backend_tokenizer
    for ours, theirs in zip(backend.decode_batch(merged), backend.decode_batch(plain), strict=True):
        if ours != theirs:
            raise TokenizerError(f"an n-gram decodes to {ours!r}, its parts to {theirs!r}; nothing was written")
