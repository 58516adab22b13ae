"""How a byte-level tokenizer splits text before its merges, and llama.cpp's name for it.

The converter knows tokenizers by a hash over their ids of one text, so a tokenizer that somebody trained is unknown even if
it splits text like a known one. llama.cpp needs nothing of it but the name of the splitting.
"""

from typing import Any

from tasc.errors import OptionError

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD, _REST = r"|[^\r\n\p{L}\p{N}]?\p{L}+", r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN_2 = _CONTRACTIONS + _WORD + r"|\p{N}" + _REST
_LLAMA_3 = _CONTRACTIONS + _WORD + r"|\p{N}{1,3}" + _REST

# what llama.cpp (src/llama-vocab.cpp) does under each name, as steps of a tokenizer.json
_NAMES: dict[tuple[tuple[Any, ...], ...], str] = {
    (("ByteLevel", True),): "gpt-2",
    (("Split", _QWEN_2), ("ByteLevel", False)): "qwen2",
    (("Split", _LLAMA_3), ("ByteLevel", False)): "dbrx",
    (("Digits",), ("ByteLevel", True)): "smollm",
}

# as of llama-cpp-python 0.3.36: names under which llama.cpp looks a whole word up before it merges, and those under which it puts BOS in front
IGNORE_MERGES = frozenset((
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano",
    "minicpm5", "youtu", "glm4", "glm5", "tekken", "granite-embed-multi-97m",
))  # fmt: skip
ADD_BOS = frozenset((
    "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano",
    "tekken", "chameleon",
))  # fmt: skip


def named_split(state: dict[str, Any]) -> str | None:
    """llama.cpp's name for the way in which a parsed `tokenizer.json` splits text; None where it is not certain.

    NFC is passed over: llama.cpp does not normalise, so text that is not in this form is encoded otherwise, for tokenizers
    that it knows as well.
    """
    normalizer = state.get("normalizer")
    if normalizer is not None and normalizer["type"] != "NFC":
        return None
    name = _NAMES.get(tuple(_described(step) for step in _steps(state.get("pre_tokenizer"))))
    if state["model"].get("ignore_merges"):
        return "llama-bpe" if name == "dbrx" else None
    return name


def require_split(state: dict[str, Any], pre: str, *, checked: bool) -> None:
    """Refuse a name that neither the tokenizer's own steps nor a check with llama.cpp prove.

    Raises:
        OptionError: the tokenizer is known to split text otherwise, or nothing says how.
    """
    name = named_split(state)
    if name == pre or (name is None and checked):
        return
    if name is not None:
        raise OptionError(f"the tokenizer splits text as llama.cpp's {name} does, not as {pre}: pass --pre {name}")
    raise OptionError(
        f"nothing shows that the tokenizer splits text as llama.cpp's {pre} does; let llama.cpp prove it (--check N --data FILE)"
    )


def _steps(step: dict[str, Any] | None) -> list[dict[str, Any]]:
    if step is None:
        return []
    return [inner for child in step["pretokenizers"] for inner in _steps(child)] if "pretokenizers" in step else [step]


def _described(step: dict[str, Any]) -> tuple[Any, ...]:
    kind = step["type"]
    if kind == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
        return kind, step["pattern"].get("Regex")
    if kind == "ByteLevel" and not step["add_prefix_space"]:
        return kind, step.get("use_regex", True)
    if kind == "Digits" and step["individual_digits"]:
        return (kind,)
    return kind, "with options that llama.cpp does not have"
