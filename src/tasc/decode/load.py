"""Load a model for decoding, with its tokenizer and, where the folder has one, its enriched vocabulary."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasc.corpus import fingerprint, load_tokenizer
from tasc.corpus.tokenizer import BASE_FOLDER, is_hub_name
from tasc.decode.cpu import lay_out_for_cpu
from tasc.errors import FingerprintError, ModelError, OptionError, first_line
from tasc.vocab.hub import FILE_NAME as ENRICHED_FILE
from tasc.vocab.hub import local_folder
from tasc.vocab.tokenizer import load_base_tokenizer
from tasc.vocab.vocabulary import EnrichedVocabulary

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

DEVICES = ("auto", "cuda", "mps", "cpu")
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready for decoding.

    Attributes:
        model: in evaluation mode, on its device, its weights laid out for passes over a few tokens (`lay_out_for_cpu`).
        tokenizer: the tokenizer of the same folder or Hub name.
        vocabulary: its n-grams; None for a model without any.
        name: what was loaded.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerFast"
    vocabulary: EnrichedVocabulary | None
    name: str


def load_model(
    name_or_path: str | Path, *, device: str = "auto", dtype: str = "auto", trust_remote_code: bool = False
) -> LoadedModel:
    """Load a checkpoint folder or a Hub model.

    Args:
        name_or_path: a folder such as the one `tasc train` wrote, or a Hub name.
        device: `"auto"` takes CUDA, then MPS, then the CPU; a torch device such as `"cuda:1"` is taken as it is.
        dtype: `"auto"` is the checkpoint's own on an accelerator and float32 on a CPU.
        trust_remote_code: run Python code that comes with the model. Off unless you ask.

    Raises:
        ModelError: the model cannot be loaded.
        TokenizerError: there is no usable tokenizer beside it.
        FingerprintError: its n-grams were made for another tokenizer.
    """
    name = str(name_or_path)
    _check_name(name)
    chosen = pick_device(device)
    model = _load(name, _pick_dtype(dtype, chosen), trust_remote_code)
    tokenizer = load_tokenizer(name)
    vocabulary = _find_vocabulary(name)
    if vocabulary is not None:
        _check_base(vocabulary, local_folder(name))
        check_vocabulary(vocabulary, tokenizer, source=name)
    return LoadedModel(lay_out_for_cpu(model.to(chosen).eval()), tokenizer, vocabulary, name)


def pick_device(device: str = "auto") -> str:
    """The torch device that `"auto"` stands for here; any other name is given back.

    Raises:
        OptionError: no such device, or it is not available.
    """
    import torch

    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise OptionError(f"device must be one of {', '.join(DEVICES)} or a torch device, got {device!r}") from None
    if (kind == "cuda" and not torch.cuda.is_available()) or (kind == "mps" and not torch.backends.mps.is_available()):
        raise OptionError(f"device {device!r} is not available on this machine; pass --device cpu or auto")
    return device


def device_name(model: "PreTrainedModel") -> str:
    """The model's device in words, e.g. `"cpu"` or `"cuda (NVIDIA H200)"`."""
    import torch

    device = model.device
    return f"{device.type} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type


def check_vocabulary(
    vocabulary: EnrichedVocabulary, tokenizer: "PreTrainedTokenizerFast", *, source: str = "the model"
) -> None:
    """Refuse n-grams that belong to another tokenizer.

    The tokenizer is either the base one (equal fingerprints), or its enriched copy, in which every n-gram has its id
    and decodes to the same text as its base ids.

    Args:
        vocabulary: the n-grams.
        tokenizer: base or enriched.
        source: what the message calls the tokenizer's owner.

    Raises:
        FingerprintError: naming the first n-gram that does not fit.
    """
    if fingerprint(tokenizer) == vocabulary.fingerprint:
        return
    for k, base_ids in enumerate(vocabulary.expansions):
        ngram_id = vocabulary.base_size + k
        written, meant = tokenizer.decode([ngram_id]), tokenizer.decode(list(base_ids))
        if written != meant:
            raise FingerprintError(
                f"{source}: {ENRICHED_FILE} was made for tokenizer {vocabulary.fingerprint}, found "
                f"{fingerprint(tokenizer)}, where id {ngram_id} is {written!r} instead of {meant!r}; put the tokenizer "
                "files that 'tasc enrich' wrote beside it"
            )


def _load(name: str, dtype: "torch.dtype | str", trust_remote_code: bool) -> Any:
    """Load the weights; transformers only warns of missing ones and would go on with random numbers."""
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, dtype=dtype, trust_remote_code=trust_remote_code, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{name}: no model could be loaded ({first_line(error)})") from error
    model, loading = loaded
    missing = sorted(loading["missing_keys"])
    if missing:
        raise ModelError(f"{name}: {len(missing)} weights are missing (first {missing[0]}); copy the whole checkpoint")
    return model


def _check_base(vocabulary: EnrichedVocabulary, folder: Path) -> None:
    """Where the base tokenizer's files were kept in the folder, they must be those the n-grams were made for."""
    if not (folder / BASE_FOLDER).is_dir():
        return
    found = fingerprint(load_base_tokenizer(folder))
    if found != vocabulary.fingerprint:
        raise FingerprintError(
            f"{folder}: {ENRICHED_FILE} was made for tokenizer {vocabulary.fingerprint}, {BASE_FOLDER} is {found}; "
            "copy both from one folder that 'tasc enrich' or 'tasc train' wrote"
        )


def _check_name(name: str) -> None:
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"{name}: no config.json; pass a folder that 'tasc train' or save_pretrained wrote")
    elif path.exists() or path.is_absolute() or not is_hub_name(name):
        raise ModelError(f"{name}: no such folder; pass a checkpoint folder or a Hub name like owner/model")


def _pick_dtype(dtype: str, device: str) -> "torch.dtype | str":
    import torch

    if dtype not in DTYPES:
        raise OptionError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if dtype != "auto":
        return getattr(torch, dtype)
    return torch.float32 if device == "cpu" else "auto"


def _find_vocabulary(name: str) -> EnrichedVocabulary | None:
    path = local_folder(name) / ENRICHED_FILE
    return EnrichedVocabulary.load(path) if path.is_file() else None
