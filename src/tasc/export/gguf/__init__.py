"""An enriched model as GGUF, for llama.cpp: written by llama.cpp's own converter, then read back and proven.

N-grams stand in a byte-level vocabulary without merges. llama.cpp encodes such a vocabulary by its merges alone, so it never
reads an n-gram into a prompt, and decodes one that the model emits like any other token. Tokenizers for which that does not
hold are refused.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasc.corpus import fingerprint, load_tokenizer
from tasc.errors import ModelError, OptionError
from tasc.export.gguf.convert import OUTTYPES, convert, find_converter
from tasc.export.gguf.proof import Written, check_vocabulary, read_gguf, require_library
from tasc.export.gguf.refusal import parsed, refuse_leaks, refuse_whole_words
from tasc.export.gguf.running import (
    Check,
    check_ngrams,
    check_prompts,
    compare_outputs,
    llama_cpp_version,
    opened,
    positions,
    require_llama_cpp,
)
from tasc.export.gguf.splitting import require_split
from tasc.export.sidecar import sha256, write_about
from tasc.files import read_json
from tasc.progress import Progress, silent
from tasc.vocab.hub import FILE_NAME as ENRICHED_FILE
from tasc.vocab.tokenizer import load_base_tokenizer
from tasc.vocab.vocabulary import EnrichedVocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TARGET, _ABOUT = "gguf", ".about.json"
SHORT_BYTES = 32  # `Llama.detokenize` of llama-cpp-python 0.3.36 gives longer tokens as nothing
_SOURCES = (
    "*.json",
    "*.jinja",
    "additional_chat_templates/*.jinja",
    "*.safetensors",
    "*.bin",
    "*.model",
    "merges.txt",
    "README.md",
)
_NO_CONFIG = {"tokenizer.json", ENRICHED_FILE}


def export_gguf(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    llama_cpp: str | os.PathLike[str] | None = None,
    outtype: str = "auto",
    pre: str | None = None,
    check: Check | Callable[[], Check] | None = None,
    trust_remote_code: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Convert a checkpoint to a GGUF and prove that it holds the same tokenizer; beside it `NAME.about.json`.

    The GGUF is read back: tokens, their types, merges, special tokens and the rows of embedding and head must be those of
    the checkpoint. Nothing is written if anything differs. What can be refused at once is refused before anything is decoded or
    converted, and the sidecar is there before the GGUF is.

    Args:
        folder: what `tasc train` wrote, or any checkpoint with a fast tokenizer.
        path: the GGUF.
        llama_cpp: where `convert_hf_to_gguf.py` lies; see `find_converter`.
        outtype: type of the weights: "auto" (16 bits, the checkpoint's own kind), "f32", "f16", "bf16" or "q8_0".
        pre: llama.cpp's name for how the tokenizer splits text, if the converter does not know the tokenizer.
        check: prompts and outputs that llama.cpp is compared with, through llama-cpp-python; or a function that makes them.
        trust_remote_code: take a checkpoint that names Python code too. The converter itself decides what it runs of it: code
            in the folder, for some architectures.
        progress: see `tasc.progress.Progress`.

    Returns:
        What the sidecar says. `counts["long_ngrams"]` are those of more than `SHORT_BYTES` bytes. With `check`,
        `counts["check"]` has the numbers of `ngram_texts` and `prompts` that llama.cpp encoded as it should, and `outputs`:
        `prompts`, `same`, `tokens`, `differing`.

    Raises:
        TokenizerError: llama.cpp would use the tokenizer otherwise than transformers; the message says how.
        ModelError: the checkpoint cannot be converted, or the GGUF not be loaded; in float32 also if an output differs.
        OptionError: an unknown outtype, a folder in place of the GGUF, no converter, or a `pre` that nothing proves.
        MissingExtraError: the gguf library or, for a check, llama-cpp-python is not installed.

    Examples:
        ```python
        export_gguf("runs/task", "task.gguf", llama_cpp="llama.cpp")
        ```
    """
    source, target = Path(folder), Path(path)
    if outtype not in OUTTYPES:
        raise OptionError(f"outtype must be one of {', '.join(OUTTYPES)}, got {outtype!r}")
    if target.is_dir():
        raise OptionError(f"{target} is a folder; pass the file to write, such as {target / 'model.gguf'}")
    _check_folder(source, trust_remote_code)
    tokenizer, base, vocabulary = _load(source)
    state = parsed(tokenizer)
    if vocabulary is not None:
        refuse_leaks(tokenizer, vocabulary)
    if pre is not None:
        require_split(state, pre, checked=check is not None)
    converter = find_converter(llama_cpp)
    require_library()
    if check is not None:
        require_llama_cpp()
        check = check if isinstance(check, Check) else check()
    with _staging(target) as stage:
        made = stage / "model.gguf"  # the converter would fill in braces in the name
        with progress("converting with llama.cpp", total=1, unit="models") as advance:
            convert(converter, source, made, outtype=outtype, pre=pre, state=state)
            advance(1)
        written = read_gguf(made)
        check_vocabulary(written, tokenizer, parsed(base), vocabulary)
        if vocabulary is not None:
            refuse_whole_words(base, vocabulary, written.pre)
        checked = None if check is None else _run_check(made, check, vocabulary, outtype, progress)
        made = made.rename(stage / target.name)
        beside = target.with_name(f"{target.name}{_ABOUT}")
        about = write_about(
            stage / beside.name,
            TARGET,
            tokenizer=_tokenizer_facts(tokenizer, vocabulary, source),
            made_from=_made_from(source),
            options={"outtype": outtype, "pre": pre},
            counts=_counts(written, vocabulary) | ({} if checked is None else {"check": checked}),
            files={"model": made},
            flags=["-m", os.fspath(target)],
        )
        os.replace(stage / beside.name, beside)
        os.replace(made, target)
    return about


def _check_folder(folder: Path, trust_remote_code: bool) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no config.json; pass a folder that 'tasc train' or save_pretrained wrote")
    if trust_remote_code:
        return
    trust = "pass trust_remote_code (--trust-remote-code) if you trust it"
    for path in _files(folder, ["*.json"]):
        if path.name in _NO_CONFIG or path.name.endswith(".index.json"):
            continue
        keys = _keys(read_json(path))
        if "auto_map" in keys:
            raise ModelError(f"{path} names Python code (auto_map), which the converter may run; {trust}")
        if "configuration_files" in keys:
            raise ModelError(f"{path} names other files to be read in its place (configuration_files); {trust}")


def _keys(found: Any) -> set[str]:
    """Of a JSON value and of all values in it."""
    children = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return set(found if isinstance(found, dict) else ()).union(*map(_keys, children))


def _files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """The regular files of a checkpoint that fit one of the patterns; no sidecar of an export into the same folder."""
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file() and not path.name.endswith(_ABOUT))


def _load(
    folder: Path,
) -> "tuple[PreTrainedTokenizerFast, PreTrainedTokenizerFast, EnrichedVocabulary | None]":
    """The model's tokenizer, the one without n-grams, and the n-grams."""
    tokenizer = load_tokenizer(folder)
    if not (folder / ENRICHED_FILE).is_file():
        return tokenizer, tokenizer, None
    return tokenizer, load_base_tokenizer(folder), EnrichedVocabulary.load(folder / ENRICHED_FILE)


def _run_check(
    path: Path, check: Check, vocabulary: EnrichedVocabulary | None, outtype: str, progress: Progress
) -> dict[str, Any]:
    with opened(path, n_ctx=positions(check)) as engine:
        n_texts = 0 if vocabulary is None else check_ngrams(engine, vocabulary)
        n_prompts = check_prompts(engine, check)
        found: dict[str, Any] = {"llama_cpp_python": llama_cpp_version(), "ngram_texts": n_texts, "prompts": n_prompts}
        if not check.outputs:
            return found
        with progress("decoding with llama.cpp", total=len(check.outputs), unit="prompts") as advance:
            found["outputs"] = compare_outputs(engine, check, advance)
    differing = found["outputs"]["differing"]
    if differing and outtype == "f32":
        raise ModelError(
            f"{len(differing)} of {len(check.outputs)} outputs differ between llama.cpp and transformers, the first in row "
            f"{differing[0]['row']} after {differing[0]['position']} tokens"
        )
    return found


def _tokenizer_facts(
    tokenizer: "PreTrainedTokenizerFast", vocabulary: EnrichedVocabulary | None, folder: Path
) -> dict[str, Any]:
    own = fingerprint(tokenizer)
    return {
        "fingerprint": own,
        "base_fingerprint": own if vocabulary is None else vocabulary.fingerprint,
        "name": os.fspath(folder),
        "vocab_size": len(tokenizer),
        "eos_id": tokenizer.eos_token_id,
        "vocabulary": "" if vocabulary is None else os.fspath(folder / ENRICHED_FILE),
    }


def _made_from(folder: Path) -> dict[str, Any]:
    hashes = {path.relative_to(folder).as_posix(): sha256(path) for path in _files(folder, _SOURCES)}
    return {"folder": os.fspath(folder), "sha256": hashes}


def _counts(written: Written, vocabulary: EnrichedVocabulary | None) -> dict[str, Any]:
    ngrams = () if vocabulary is None else vocabulary.ngrams
    return {
        "architecture": written.architecture,
        "pre": written.pre,
        "rows": written.rows,
        "ngrams": len(ngrams),
        "long_ngrams": sum(len(ngram.text.encode()) > SHORT_BYTES for ngram in ngrams),
        "merges": len(written.merges),
    }


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A folder beside the target, so that the finished file can be moved; gone afterwards."""
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(dir=target.parent, prefix=".tasc-gguf-"))
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)


__all__ = [
    "OUTTYPES",
    "SHORT_BYTES",
    "Check",
    "Written",
    "export_gguf",
    "find_converter",
    "llama_cpp_version",
    "read_gguf",
]
