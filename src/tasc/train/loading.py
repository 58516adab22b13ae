"""Loading a base model in the precision that a method trains in, and telling one base model from another."""

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from tasc.corpus import fingerprint, load_tokenizer
from tasc.errors import MissingExtraError, ModelError, OptionError, TokenizerError, first_line
from tasc.train.adapters import cast_parameters
from tasc.train.options import Options

LONGEST_BY_DEFAULT = 2048  # tokens per example where the model could take more
SAMPLES, SAMPLE_BYTES = 2048, 4096  # of a weight file, to tell it from another: 8 MiB, every 2.5 MB of a file of 5 GB

ModelLike = str | os.PathLike[str] | PreTrainedModel


def computes_in_bf16(options: Options) -> bool:
    """Whether forward passes run in bfloat16: asked for, or by default where a GPU has it in hardware."""
    if options.precision != "auto":
        return options.precision == "bf16"
    return not options.cpu and torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def load_model(model: ModelLike, options: Options) -> tuple[PreTrainedModel, torch.dtype]:
    """The base model to train, and the dtype that its checkpoint has and the result will have.

    Frozen weights stay in the checkpoint's dtype where passes run in bfloat16; otherwise everything is float32.

    Raises:
        ModelError: the model cannot be loaded or is no causal language model.
        MissingExtraError: qlora without bitsandbytes.
        OptionError: qlora with a model in memory.
    """
    if options.method == "qlora":
        return _load_4bit(model, options), torch.bfloat16
    loaded = model if isinstance(model, PreTrainedModel) else _from_pretrained(model, options)
    dtype = loaded.dtype
    if options.method == "full" or not computes_in_bf16(options):
        cast_parameters(loaded, torch.float32)  # what learns needs more than bfloat16's 8 bits
    return checkpointing(loaded, options), dtype


def load_for_merge(model: ModelLike, options: Options) -> PreTrainedModel:
    """The bfloat16 base that a 4-bit run's updates are folded into, on the CPU."""
    return _from_pretrained(model, options, dtype=torch.bfloat16)


def checkpointing(model: PreTrainedModel, options: Options) -> PreTrainedModel:
    """Switch on the recomputation of activations if it is asked for."""
    if options.gradient_checkpointing and hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    elif options.gradient_checkpointing:  # transformers before 5.20
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def max_length(model: ModelLike, options: Options) -> int:
    """Tokens per example: what is asked for, or the model's positions up to 2048.

    Raises:
        OptionError: the model has fewer positions than asked for.
    """
    config = config_of(model, options)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or LONGEST_BY_DEFAULT
    if options.max_length > positions:
        raise OptionError(f"the model has {positions} positions, fewer than max_length {options.max_length}; lower it")
    return options.max_length or min(positions, LONGEST_BY_DEFAULT)


def config_of(model: ModelLike, options: Options) -> PretrainedConfig:
    """The configuration of a model that need not be loaded yet.

    Raises:
        ModelError: there is none.
    """
    if isinstance(model, PreTrainedModel):
        return model.config
    name = os.fspath(model)
    with _explained(name):
        return AutoConfig.from_pretrained(name, trust_remote_code=options.trust_remote_code)


def check_stock_tokenizer(tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig) -> None:
    """Make sure that the tokenizer gives the same ids when stock transformers load it beside the model.

    `AutoTokenizer` of transformers 5 goes by the model's type for some types: beside a qwen2 config any tokenizer gets
    Qwen2's pre-tokenizer and normaliser.

    Raises:
        TokenizerError: it would give other ids.
    """
    with tempfile.TemporaryDirectory(prefix="tasc-") as folder:
        tokenizer.save_pretrained(folder)
        config.save_pretrained(folder)
        loaded = load_tokenizer(folder)
    if fingerprint(loaded) != fingerprint(tokenizer):
        raise TokenizerError(
            f"beside a {config.model_type} model, AutoTokenizer loads this tokenizer as {type(loaded).__name__}, which gives "
            "other ids; use the tokenizer as it loads from the model's own folder, or a model of another type"
        )


def _from_pretrained(model: ModelLike, options: Options, **kwargs: Any) -> PreTrainedModel:
    assert not isinstance(model, PreTrainedModel)
    name = os.fspath(model)
    with _explained(name), no_bars():
        return AutoModelForCausalLM.from_pretrained(
            name, **{"dtype": "auto", "trust_remote_code": options.trust_remote_code} | kwargs
        )


@contextmanager
def no_bars() -> Iterator[None]:
    """Keeps transformers' own progress bars off the screen, which belongs to the run's progress."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{name} cannot be loaded as a causal language model: {first_line(error)}") from error


def _load_4bit(model: ModelLike, options: Options) -> PreTrainedModel:
    if isinstance(model, PreTrainedModel):
        raise OptionError("qlora loads its model in 4 bits itself; pass the model's name or folder, or use method lora")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("qlora needs bitsandbytes, which is not installed: pip install 'tasc-lm[quant]'")
    from peft import prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    on_gpu = torch.cuda.is_available() and not options.cpu
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    loaded = _from_pretrained(
        model, options, dtype=torch.bfloat16, quantization_config=quantization, device_map={"": device}
    )
    for layer in loaded.modules():
        # bitsandbytes 0.50 repacks CPU weights at the first evaluation, and no gradient passes through them afterwards
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    return prepare_model_for_kbit_training(
        loaded,
        use_gradient_checkpointing=options.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
    )


def identity_of(model: ModelLike) -> dict[str, Any]:
    """What tells one base model from another: name and a digest of config and weights.

    Of a folder the weight files' sizes and samples from all over them are hashed, small files whole, which is quick; of a
    model in memory, its tensors.
    """
    sha = hashlib.sha256()
    if isinstance(model, PreTrainedModel):
        for name, tensor in sorted(model.state_dict().items()):
            sha.update(name.encode())
            sha.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return {"model": type(model).__name__, "model_digest": sha.hexdigest()[:16]}
    name = os.fspath(model)
    if not Path(name).is_dir():
        return {"model": name, "model_digest": None}  # a Hub name
    for file in sorted(Path(name).iterdir()):
        if file.name == "config.json" or file.suffix in (".safetensors", ".bin"):
            sha.update(f"{file.name} {file.stat().st_size}".encode())
            for part in _samples(file):
                sha.update(part)
    return {"model": name, "model_digest": sha.hexdigest()[:16]}


def _samples(path: Path) -> Iterator[bytes]:
    """Parts of a file at equal distances, both ends among them; of a small file all of it."""
    last = max(path.stat().st_size - SAMPLE_BYTES, 0)
    n = min(-(-last // SAMPLE_BYTES) + 1, SAMPLES)
    with path.open("rb") as file:
        for k in range(n):
            file.seek(k * last // max(n - 1, 1))
            yield file.read(SAMPLE_BYTES)
