"""Into and out of a Hugging Face tokenizer: n-grams in the vocabulary, without merges, with proof.

An n-gram becomes an entry of the model's vocabulary that no merge leads to. The model may emit its id and decoding works
everywhere; encoding never yields it, so prompts are encoded as before, which is checked for every tokenizer written.
Targets are encoded with base ids and then merged (`EnrichedVocabulary.merge`). Why: docs/decisions/0001.
"""

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasc.corpus import fingerprint, load_tokenizer
from tasc.corpus.tokenizer import BASE_FOLDER
from tasc.errors import FingerprintError, OptionError, TokenizerError, VocabularyError
from tasc.files import read_json, write_json
from tasc.vocab import _base_files
from tasc.vocab._backend import added_tokens, read_backend, token_strings
from tasc.vocab._proof import Drift, check_prompts, prove
from tasc.vocab._spelling import Speller, Style, check_enrichable, read_speller, speller
from tasc.vocab._surgery import add_entries
from tasc.vocab.hub import FILE_NAME, local_folder
from tasc.vocab.vocabulary import EnrichedVocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

STYLE_KEY = "tasc_style"


def write_tokenizer(
    tokenizer: "PreTrainedTokenizerFast",
    vocabulary: EnrichedVocabulary,
    folder: str | os.PathLike[str],
    *,
    style: Style = "vocabulary",
    texts: Iterable[str] = (),
) -> Drift:
    """Write `tokenizer` with the n-grams of `vocabulary` to `folder`, and prove that prompts are encoded as before.

    `folder` then loads with `AutoTokenizer.from_pretrained`. It also gets `enriched.json` (its options say the style)
    and `base_tokenizer/`, the original files, from which `remove_ngrams` restores them. Nothing is written if a check
    fails.

    Args:
        tokenizer: the base tokenizer; it is not changed.
        vocabulary: n-grams of its ids.
        folder: made if missing; tokenizer files that stand there are replaced.
        style: "vocabulary", or "added-tokens" as the paper does it, which changes how prompts are encoded. There the
            drift is measured and not refused.
        texts: prompts to check besides a built-in sample; read once.

    Returns:
        Drift over `texts`; for "vocabulary" over the built-in sample as well, and always 0.

    Raises:
        TokenizerError: the tokenizer or an n-gram cannot be written safely; the message says why.
        FingerprintError: the vocabulary was made with another tokenizer.
        VocabularyError: the vocabulary does not fit the tokenizer.
    """
    if style not in ("vocabulary", "added-tokens"):
        raise OptionError(f"style must be 'vocabulary' or 'added-tokens', not {style!r}")
    out = Path(folder)
    state = read_backend(tokenizer)
    spellings = _spellings(tokenizer, read_speller(tokenizer, state, style), vocabulary)
    with _staging(out) as stage:
        config = stage / "config.json"
        if (out / config.name).is_file():  # the model's: it decides as which class AutoTokenizer loads
            shutil.copyfile(out / config.name, config)
        _base_files.keep_base_files(tokenizer, stage / BASE_FOLDER)
        enriched = _write_enriched(tokenizer, state, spellings, stage, style)
        if style == "vocabulary":
            drift = prove(tokenizer, enriched, vocabulary.expansions, spellings, texts)
        else:
            _check_added(enriched, vocabulary, spellings)
            drift = check_prompts(tokenizer, enriched, texts, style=style)
        config.unlink(missing_ok=True)
        dataclasses.replace(vocabulary, options=vocabulary.options | {"style": style}).save(stage)
        _publish(stage, out)
    return drift


def remove_ngrams(folder: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Write the base tokenizer of an enriched folder to `out`, byte for byte as it was.

    Raises:
        TokenizerError: the kept files are missing or were changed.
        OptionError: `out` is `folder`.
    """
    source, target = Path(folder), Path(out)
    if source.resolve() == target.resolve():
        raise OptionError(f"{out}: the base tokenizer needs a folder of its own, not the enriched one")
    _base_files.restore_base_files(source / BASE_FOLDER, target)


def holds_ngrams(name: str | os.PathLike[str]) -> bool:
    """Whether a name is that of what `tasc enrich` or `tasc train` wrote, with n-grams and the base tokenizer."""
    folder = local_folder(name)
    return (folder / FILE_NAME).is_file() and (folder / BASE_FOLDER).is_dir()


def base_of(name: str | os.PathLike[str]) -> str:
    """The folder of the base tokenizer, of a name that holds n-grams; any other name as it is."""
    return str(local_folder(name) / BASE_FOLDER) if holds_ngrams(name) else os.fspath(name)


def load_base_tokenizer(folder: str | os.PathLike[str]) -> "PreTrainedTokenizerFast":
    """The base tokenizer of an enriched folder; its fingerprint is the one in `enriched.json`."""
    return load_tokenizer(local_folder(folder) / BASE_FOLDER)


def _spellings(tokenizer: "PreTrainedTokenizerFast", spell: Speller, vocabulary: EnrichedVocabulary) -> list[str]:
    if vocabulary.base_size != spell.base_size:
        raise VocabularyError(
            f"the vocabulary is for a tokenizer of {vocabulary.base_size} ids, this one has {spell.base_size}; "
            "use the base tokenizer that it was made with"
        )
    if vocabulary.fingerprint and vocabulary.fingerprint != (found := fingerprint(tokenizer)):
        raise FingerprintError(
            f"the vocabulary was made with tokenizer {vocabulary.fingerprint}, this one is {found}; mine it again"
        )
    first: dict[str, int] = {}
    for k, ids in enumerate(vocabulary.expansions):
        spelling = spell.spell(ids)
        if spelling is None:
            raise TokenizerError(f"n-gram {k} {spell.text(ids)!r} cannot become a token: {spell.refusal(ids)}")
        if first.setdefault(spelling, k) != k:
            raise TokenizerError(
                f"n-grams {first[spelling]} and {k} are both spelt {spelling!r}, and a spelling has one id only; "
                "drop the second one"
            )
    return list(first)


def _write_enriched(
    tokenizer: "PreTrainedTokenizerFast", state: dict[str, Any], spellings: list[str], stage: Path, style: Style
) -> "PreTrainedTokenizerFast":
    """Write the enriched files to `stage` and load them; saved again, they are the same bytes."""
    from tokenizers import Tokenizer

    tokenizer.save_pretrained(os.fspath(stage))
    if style == "vocabulary":
        strings = token_strings(state, added_tokens(tokenizer))
        edited = Tokenizer.from_str(json.dumps(add_entries(state, strings, spellings)))
        edited.save(os.fspath(stage / "tokenizer.json"))
        enriched = load_tokenizer(stage)
    else:
        write_json(stage / "tokenizer_config.json", read_json(stage / "tokenizer_config.json") | {STYLE_KEY: style})
        enriched = load_tokenizer(stage)
        enriched.add_tokens(spellings)
    return _settle(enriched, stage)


def _settle(enriched: "PreTrainedTokenizerFast", stage: Path) -> "PreTrainedTokenizerFast":
    """Save and load until saving changes nothing: once, unless transformers lays the base's own files out anew."""
    for _ in range(3):
        before = _contents(stage)
        enriched.save_pretrained(os.fspath(stage))
        if _contents(stage) == before:
            return enriched
        enriched = load_tokenizer(stage)
    raise TokenizerError("the tokenizer changes each time it is saved and loaded; n-grams cannot be added to it safely")


def _contents(stage: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in _base_files.tokenizer_files(stage)}


def _check_added(enriched: "PreTrainedTokenizerFast", vocabulary: EnrichedVocabulary, spellings: list[str]) -> None:
    if enriched.convert_tokens_to_ids(spellings) != list(range(vocabulary.base_size, vocabulary.size)):
        raise TokenizerError("add_tokens gave the n-grams other ids than the vocabulary has; use style 'vocabulary'")


@contextmanager
def _staging(out: Path) -> Iterator[Path]:
    """A folder inside `out`, so that files can be moved from it; gone afterwards, as is `out` if it stayed empty."""
    out.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(dir=out, prefix=".staging-"))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        with suppress(OSError):
            out.rmdir()


def _publish(stage: Path, out: Path) -> None:
    """Move what was staged into `out`; `enriched.json` last, so that it vouches for the rest."""
    (out / FILE_NAME).unlink(missing_ok=True)
    for old in _base_files.tokenizer_files(out):
        if not (stage / old.relative_to(out)).is_file():
            old.unlink()
    shutil.rmtree(out / BASE_FOLDER, ignore_errors=True)
    for path in sorted(stage.iterdir(), key=lambda path: (path.name == FILE_NAME, path.name)):
        if path.is_dir() and (out / path.name).is_dir():
            shutil.rmtree(out / path.name)
        os.replace(path, out / path.name)


__all__ = [
    "Drift",
    "Speller",
    "Style",
    "base_of",
    "check_enrichable",
    "check_prompts",
    "holds_ngrams",
    "load_base_tokenizer",
    "remove_ngrams",
    "speller",
    "write_tokenizer",
]
