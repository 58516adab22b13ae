"""Where the n-grams of a model or tokenizer lie: in its folder, or in the repository of its name on the Hub."""

import os
from functools import lru_cache
from pathlib import Path

from tasc.corpus.tokenizer import BASE_FOLDER, is_hub_name

FILE_NAME = "enriched.json"
# of a repository: the n-grams, the base tokenizer, and what says how prompts are written (`tasc.corpus.load_tokenizer`)
_FETCHED = (FILE_NAME, f"{BASE_FOLDER}/*", "tokenizer_config.json", "chat_template.jinja")


def local_folder(name: str | os.PathLike[str]) -> Path:
    """The folder to look for n-grams in.

    Args:
        name: a path, or a Hub name `owner/name`, of whose repository the files of the n-grams are fetched into Hugging Face's
            cache, if it has any.

    Returns:
        A path as it is, which may not exist; so is a Hub name without n-grams.
    """
    path, text = Path(name), os.fspath(name)
    if path.exists() or path.suffix == ".json" or not is_hub_name(text):
        return path
    return _fetched(text) or path


@lru_cache(maxsize=8)
def _fetched(repository: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from transformers.utils.hub import cached_file

    try:
        if cached_file(repository, FILE_NAME, _raise_exceptions_for_missing_entries=False) is None:
            return None
        return Path(snapshot_download(repository, allow_patterns=list(_FETCHED)))
    except OSError:  # no such repository, or no way to it: whoever needs more of it than n-grams says so
        return None
