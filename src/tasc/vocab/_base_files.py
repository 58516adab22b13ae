"""Keep the files of the base tokenizer inside the enriched folder, byte for byte, and give them back.

A copy with checksums, not a reversible edit: the edit would have to undo how `tokenizers` and `transformers` of one
version lay out JSON, the copy needs nothing but itself. It costs 2 to 12 MB.
"""

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tasc.errors import TokenizerError
from tasc.files import atomic_write

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CHECKSUMS = "SHA256SUMS"

# everything that engines read a tokenizer from; what else lies beside it (weights, configs) belongs to the model
_NAMES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
)
_PATTERNS = ("*.tiktoken", "tokenizer.model.v*", "additional_chat_templates/*.jinja")


def keep_base_files(tokenizer: "PreTrainedTokenizerFast", folder: Path) -> None:
    """Put the original files of `tokenizer` and their checksums into `folder`.

    The files come from where the tokenizer was loaded (a folder, or the Hub's cache). If they no longer describe it,
    because it was changed or made in memory, it is saved as it is.
    """
    folder.mkdir(parents=True)
    source = source_folder(tokenizer)
    if source is not None and _describes(source, tokenizer):
        for path in tokenizer_files(source):
            target = folder / path.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
    else:
        tokenizer.save_pretrained(os.fspath(folder))
    lines = [f"{_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in tokenizer_files(folder)]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def restore_base_files(folder: Path, out: Path) -> list[Path]:
    """Write the kept files to `out`, checked against their checksums; returns their paths.

    Raises:
        TokenizerError: there are none, or one was changed.
    """
    contents = {name: (folder / name).read_bytes() for name in _checked_names(folder)}
    for name, content in contents.items():
        with atomic_write(out / name, "wb") as file:
            file.write(content)
    return [out / name for name in contents]


def tokenizer_files(folder: Path) -> list[Path]:
    """The tokenizer's files in `folder`, sorted."""
    found = {folder / name for name in _NAMES} | {path for pattern in _PATTERNS for path in folder.glob(pattern)}
    return sorted(path for path in found if path.is_file())


def source_folder(tokenizer: "PreTrainedTokenizerFast") -> Path | None:
    """Where the tokenizer's files lie: its folder, or its snapshot in the Hub's cache; None if unknown."""
    name = str(getattr(tokenizer, "name_or_path", "") or "")
    if not name:
        return None
    if Path(name).is_dir():
        return Path(name) if (Path(name) / "tokenizer.json").is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "tokenizer.json")
    except HFValidationError:
        return None
    return Path(cached).parent if isinstance(cached, str) else None


def _describes(source: Path, tokenizer: "PreTrainedTokenizerFast") -> bool:
    live = tokenizer.backend_tokenizer
    # usually the file is this very text; loading it again takes seconds for a large vocabulary
    if (source / "tokenizer.json").read_bytes() == live.to_str(pretty=True).encode("utf-8"):
        return True
    from tasc.corpus import fingerprint, load_tokenizer

    try:
        return fingerprint(load_tokenizer(source)) == fingerprint(tokenizer)
    except TokenizerError:
        return False


def _checked_names(folder: Path) -> list[str]:
    try:
        lines = (folder / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise TokenizerError(
            f"{folder / CHECKSUMS}: no such file; this is no folder that 'tasc enrich' wrote, or its base files were deleted"
        ) from None
    pairs = [line.split("  ", 1) for line in lines]
    for digest, name in pairs:
        path = folder / name
        # the list may come from a stranger's repository
        if not path.resolve().is_relative_to(folder.resolve()):
            raise TokenizerError(f"{folder / CHECKSUMS}: names a file outside its folder ({name}); do not use it")
        if not path.is_file() or _digest(path) != digest:
            raise TokenizerError(f"{path}: missing or changed since it was kept; copy it again from the base model")
    return [name for _, name in pairs]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
