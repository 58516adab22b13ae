"""What a model's `forward` takes and gives, whichever release of transformers it comes from."""

import inspect
from collections.abc import Collection
from typing import Any


def own_model(model: Any) -> Any:
    """The model itself, without what PEFT has put around it."""
    unwrap = getattr(model, "get_base_model", None)
    return model if unwrap is None else unwrap()


def arguments_of(model: Any) -> Collection[str]:
    """Names that the model's own `forward` takes; a PEFT model's takes anything and passes it on."""
    return inspect.signature(own_model(model).forward).parameters.keys()


def cache_name(names: Collection[str]) -> str:
    """What the key-value cache is called among them: transformers 5.24 renamed `past_key_values` to `cache`."""
    return "cache" if "cache" in names else "past_key_values"
