"""The options of a fine-tuning run, checked once, and the arithmetic of its batches."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from tasc.errors import OptionError
from tasc.train.adapters import Method, TrainRows
from tasc.train.surgery import DEFAULT_INIT, Init

Precision = Literal["auto", "bf16", "fp32"]

EVAL_ROWS = 512
_NOT_OF_THE_RESULT = {"eval_every", "save_every", "eval_rows"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The keyword options of `tasc.train.finetune`, where each is explained.

    Raises:
        OptionError: a value is out of range.
    """

    template: str = "auto"
    method: Method = "lora"
    train_rows: TrainRows = "all"
    init: Init = DEFAULT_INIT
    lora_r: int = 16
    lora_alpha: int = 16
    lora_dropout: float = 0.2
    lr: float = 2e-4
    weight_decay: float = 0.0
    warmup: float = 0.0
    epochs: float = 3.0
    max_steps: int = -1
    batch_size: int = 8
    effective_batch: int = 64
    merge_dropout: float = 0.0
    max_length: int = 0
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    eval_rows: int = EVAL_ROWS
    eval_every: int = 0
    save_every: int = 0
    seed: int = 0
    cpu: bool = False
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("method", Method), ("train_rows", TrainRows), ("init", Init), ("precision", Precision)):
            if getattr(self, name) not in get_args(allowed):
                raise OptionError(f"{name} must be one of {', '.join(get_args(allowed))}, not {getattr(self, name)!r}")
        for name in ("lora_r", "lora_alpha", "lr", "epochs", "batch_size", "effective_batch"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("lora_dropout", "merge_dropout", "warmup"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")
        for name in ("weight_decay", "max_length", "eval_rows", "eval_every", "save_every", "seed"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} must not be negative, is {getattr(self, name)}")

    def deciding(self) -> dict[str, Any]:
        """The options that the trained weights depend on."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in _NOT_OF_THE_RESULT}


@dataclass(frozen=True, slots=True)
class Batches:
    """How the visits of a run fall into forward passes and optimizer steps.

    Attributes:
        visits: rows to train on in all, each counted as often as it comes.
        size: rows per device and forward pass.
        accumulation: forward passes per device and optimizer step.
        effective: rows per optimizer step over all devices.
    """

    visits: int
    size: int
    accumulation: int
    effective: int

    @property
    def steps(self) -> int:
        """Optimizer steps of the run; the last may have fewer rows."""
        return math.ceil(self.visits / self.effective)

    @classmethod
    def of(cls, options: Options, *, rows: int, processes: int) -> Self:
        """The batches of a run over `rows` training rows on so many processes.

        Raises:
            OptionError: the effective batch cannot be divided.

        Examples:
            >>> Batches.of(Options(epochs=3), rows=1000, processes=2)
            Batches(visits=3000, size=8, accumulation=4, effective=64)
        """
        effective = options.effective_batch
        size = min(options.batch_size, max(1, effective // processes))
        if effective % (size * processes):
            raise OptionError(
                f"effective_batch must be a multiple of batch_size times processes, but {effective} is none of "
                f"{size} x {processes}; change one of them"
            )
        visits = options.max_steps * effective if options.max_steps > 0 else math.ceil(options.epochs * rows)
        return cls(visits, size, effective // (size * processes), effective)
