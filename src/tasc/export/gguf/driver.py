"""Runs llama.cpp's converter with a pre-tokenizer name for tokenizers that it does not know.

Started by `convert` as `python -P driver.py SCRIPT PRE ARGUMENTS...`, in a process of its own; it imports nothing of tasc.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main(script: str, pre: str, arguments: list[str]) -> None:
    """Run the converter; `pre` is "" where llama.cpp has to know the tokenizer itself."""
    sys.path.insert(0, str(Path(script).parent))
    spec = importlib.util.spec_from_file_location("convert_hf_to_gguf", script)
    assert spec is not None and spec.loader is not None
    converter = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = converter
    spec.loader.exec_module(converter)
    if pre:
        # in the script itself before it was divided into a package, as Model before models had a vision part
        places = (converter, sys.modules.get("conversion"))
        names = ("TextModel", "Model")
        owner: Any = next(getattr(place, name) for place in places for name in names if hasattr(place, name))
        owner.get_vocab_base_pre = _known_or(owner.get_vocab_base_pre, pre)
    sys.argv = [script, *arguments]
    converter.main()


def _known_or(original: Callable[[Any, Any], str], pre: str) -> Callable[[Any, Any], str]:
    def get_vocab_base_pre(model: Any, tokenizer: Any) -> str:
        try:
            known = original(model, tokenizer)
        except NotImplementedError:
            return pre
        if known != pre:
            sys.exit(f"llama.cpp knows this tokenizer as {known}, not {pre}; leave --pre out")
        return known

    return get_vocab_base_pre


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
