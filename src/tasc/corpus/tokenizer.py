"""Load a tokenizer, say which tokenizer it is, turn texts into ids. Nothing here changes a tokenizer."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasc.errors import TokenizerError, first_line
from tasc.files import read_json, write_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BASE_FOLDER = "base_tokenizer"  # within the folder of a model with n-grams
# what decides the ids of a text when no special tokens are added; decoder, post-processor, truncation, padding do not
_DECIDES_IDS = ("normalizer", "pre_tokenizer", "added_tokens", "model")
# by the digest of the serialised tokenizer: a tokenizer can be changed, and bringing a large one in order takes a second
_known_fingerprints: dict[bytes, str] = {}


def load_tokenizer(name_or_path: "str | os.PathLike[str] | PreTrainedTokenizerFast") -> "PreTrainedTokenizerFast":
    """Load a fast tokenizer from a folder or the Hub. Code that ships with a model is never run.

    Args:
        name_or_path: folder with a `tokenizer.json`, or Hub name; a tokenizer is returned as it is.

    Raises:
        TokenizerError: nothing there, no `tokenizer.json`, or not a fast tokenizer.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        return name_or_path
    name = os.fspath(name_or_path)
    folder = Path(name)
    if folder.is_file() and folder.name == "tokenizer.json":
        folder = folder.parent
        name = str(folder)
    if folder.exists():
        _check_folder(folder)
    elif not is_hub_name(name):
        raise TokenizerError(
            f"{name}: no such folder; pass a folder with a tokenizer.json or a Hub name like owner/model"
        )

    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError) as error:
        raise TokenizerError(f"{name}: no tokenizer could be loaded ({first_line(error)})") from error
    except Exception as error:
        # the Rust side raises bare Exception for a damaged tokenizer.json
        if type(error) is not Exception:
            raise
        raise TokenizerError(f"{name}: tokenizer.json is damaged ({first_line(error)}); download it again") from error
    if not getattr(tokenizer, "is_fast", False):
        raise TokenizerError(
            f"{name}: {type(tokenizer).__name__} is not a fast tokenizer; save a tokenizer.json for it with "
            "AutoTokenizer.from_pretrained(..., use_fast=True).save_pretrained(...)"
        )
    if folder.name == BASE_FOLDER and (folder.parent / "tokenizer_config.json").is_file():
        tokenizer.chat_template = _chat_template_beside(folder, tokenizer.chat_template)
    return tokenizer


def is_hub_name(name: str) -> bool:
    """Whether a name has the form of the Hub's, `owner/model`; a relative path may have it too."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _chat_template_beside(base: Path, own: str | None) -> str | None:
    """How the model around a base tokenizer was trained to see prompts, which may be by another template or by none."""
    if (file := base.parent / "chat_template.jinja").is_file():
        return file.read_text(encoding="utf-8")
    return own if "chat_template" in read_json(base.parent / "tokenizer_config.json") else None


def drop_chat_template(folder: Path) -> None:
    """Of a model that was trained without one: nobody may write its prompts by the template of its base model.

    Args:
        folder: of the model; a base tokenizer within keeps its files, and `load_tokenizer` gives it no template either.
    """
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    shutil.rmtree(folder / "additional_chat_templates", ignore_errors=True)
    config = read_json(folder / "tokenizer_config.json")
    if config.pop("chat_template", None) is not None:
        write_json(folder / "tokenizer_config.json", config)


def fingerprint(tokenizer: "PreTrainedTokenizerFast") -> str:
    """`"sha256:..."` over what decides ids: vocabulary, merges, model options, normaliser, pre-tokeniser, added tokens.

    Equal fingerprints mean equal ids for every text, on every machine. Decoder, chat template, truncation, padding and
    the post-processor (which only adds special tokens) are left out.
    """
    text = tokenizer.backend_tokenizer.to_str()
    digest = hashlib.sha256(text.encode()).digest()
    if digest not in _known_fingerprints:
        _known_fingerprints[digest] = _fingerprint(text)
    return _known_fingerprints[digest]


def _fingerprint(text: str) -> str:
    serialised = json.loads(text)
    canonical = {key: _canonical(serialised.get(key)) for key in _DECIDES_IDS}
    canonical["model"] = _canonical_model(serialised["model"])
    ordered = json.dumps(canonical, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(ordered.encode("ascii")).hexdigest()


def encode_batch(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text, no special tokens added, never truncated or padded. The tokenizer works in parallel."""
    backend = tokenizer.backend_tokenizer
    # a tokenizer.json may ask for either; a silently cut text would be a wrong text
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise TokenizerError(f"{folder}: not a folder; pass the folder that holds the tokenizer.json")
    if not (folder / "tokenizer.json").is_file():
        raise TokenizerError(
            f"{folder}: no tokenizer.json (a fast tokenizer); make one with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )


def _canonical(value: Any) -> Any:
    """Drop nulls: a writer of another version may leave a default out instead of writing null."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return value


def _canonical_model(model: dict[str, Any]) -> dict[str, Any]:
    """The model with one spelling for what can be spelt in two ways (merges as pairs, an empty affix as no affix)."""
    options = {key: value for key, value in model.items() if not (value is None or value is False or value == "")}
    if "merges" in options:
        options["merges"] = list(_merge_pairs(options["merges"]))
    return options


def _merge_pairs(merges: Iterable[str | list[str]]) -> Iterable[list[str]]:
    for merge in merges:
        yield merge.split(" ", 1) if isinstance(merge, str) else merge


def spelling_classes(tokenizer: "PreTrainedTokenizerFast") -> NDArray[np.int32]:
    """One number for all tokens that spell the same word apart from case and spaces around it.

    Returns:
        int32, shape (n_ids,): the lowest id of the class; special tokens and parts of characters are their own class.

    Examples:
        ```python
        classes = spelling_classes(tokenizer)
        classes[id_of("Paris")] == classes[id_of(" paris")]
        ```
    """
    n_ids = 1 + max(tokenizer.get_vocab().values(), default=-1)
    classes = np.arange(n_ids, dtype=np.int32)
    lowest: dict[str, int] = {}
    special = set(tokenizer.all_special_ids)
    texts = tokenizer.backend_tokenizer.decode_batch([[token] for token in range(n_ids)], skip_special_tokens=False)
    for token, text in enumerate(texts):
        word = text.strip().casefold()
        if word and "\N{REPLACEMENT CHARACTER}" not in word and token not in special:
            classes[token] = lowest.setdefault(word, token)
    return classes
