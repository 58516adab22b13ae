"""transformers' Trainer with our order of rows, small complete checkpoints, and an exact evaluation loss.

The Trainer sees one long pass over all visits of a run (`tasc.train.examples.plan`), so that resuming is skipping
batches; epochs exist only in the records. A checkpoint holds the trained tensors alone, next to the optimizer's state.
"""

import functools
import json
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from tasc.errors import ModelError
from tasc.train.adapters import load_trainable_state, trainable_state
from tasc.train.examples import Examples, PlannedVisits, collate
from tasc.train.folder import mark_complete

TRAINED_FILE = "trained.safetensors"

OnRecord = Callable[[dict[str, Any]], None]


class RunTrainer(Trainer):
    """The Trainer of one run; made by `tasc.train.finetune`.

    Args:
        visits: what to train on, in order.
        eval_examples: what to evaluate on, or None.
        callbacks: the run's own; the Trainer's printing is removed.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        *,
        visits: PlannedVisits,
        eval_examples: Examples | None,
        callbacks: list[TrainerCallback],
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=visits,
            eval_dataset=None if eval_examples is None else [],  # type: ignore[arg-type]  # `evaluate` reads its own
            data_collator=functools.partial(collate, pad_id=visits.examples.eos_id),
            callbacks=callbacks,
        )
        self.visits = visits
        self.eval_examples = eval_examples
        self.remove_callback(PrinterCallback)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return SequentialSampler(self.visits)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        assert output_dir is not None
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        assert self.model is not None
        save_file(trainable_state(self.model), folder / TRAINED_FILE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        assert self.model is not None
        load_trainable_state(self.model, load_file(Path(resume_from_checkpoint) / TRAINED_FILE))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()  # every process writes its own random state
        if self.args.should_save:
            checkpoints = Path(str(self.args.output_dir))
            newest = checkpoints / f"checkpoint-{self.state.global_step}"
            mark_complete(newest)
            for older in set(checkpoints.glob("checkpoint-*")) - {newest}:
                shutil.rmtree(older)  # only now: a kill must find one complete checkpoint at any time

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Loss over all evaluation targets, per token and in units that do not depend on the vocabulary."""
        assert self.eval_examples is not None
        nats = self._sum_of_losses(self.eval_examples)
        metrics = eval_metrics(nats, self.eval_examples)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def _sum_of_losses(self, examples: Examples) -> float:
        """Negative log-likelihood of all targets, EOS included, in nats, over all processes."""
        model = self.model
        assert model is not None
        training = model.training
        model.eval()
        rows = np.argsort(-examples.lengths, kind="stable")[self.args.process_index :: self.args.world_size]
        nats = torch.zeros((), dtype=torch.float64)
        for start in range(0, len(rows), self.args.per_device_eval_batch_size):
            batch = [examples.example(int(r)) for r in rows[start : start + self.args.per_device_eval_batch_size]]
            inputs = {k: t.to(self.args.device) for k, t in collate(batch, pad_id=examples.eos_id).items()}
            with self.accelerator.autocast():
                loss = model(**inputs).loss
            nats += float(loss) * int((inputs["labels"][:, 1:] >= 0).sum())
        model.train(training)
        total = self.accelerator.reduce(nats.to(self.args.device), reduction="sum")
        assert isinstance(total, torch.Tensor)
        return float(total)


def eval_metrics(nats: float, examples: Examples) -> dict[str, float]:
    """An evaluation's total in nats, by target token, base token and byte of output.

    The last two compare across vocabularies. An n-gram vocabulary can spell an output in several ways and only the
    merged one is counted, so the figure is an upper bound of the loss of the text itself.
    """
    rows = len(examples)
    return {
        "eval_loss": nats / (examples.targets.n_tokens + rows),
        "eval_nats_per_base_token": nats / (examples.completions.n_tokens + rows),
        "eval_nats_per_byte": nats / max(1, int(examples.n_bytes.sum())),
    }


class Recorder(TrainerCallback):
    """Writes metrics.jsonl and tells a listener what it writes.

    Args:
        path: of metrics.jsonl, or None in processes that do not write.
        visits: the plan, for epochs and tokens.
        effective_batch: visits per step.
        on_record: called with each record.
    """

    def __init__(self, path: Path | None, visits: PlannedVisits, effective_batch: int, on_record: OnRecord) -> None:
        self.path = path
        self.n_rows = len(visits.examples)
        self.effective_batch = effective_batch
        self.on_record = on_record
        lengths = visits.examples.lengths[visits.order % self.n_rows]
        self.tokens_after = np.concatenate(([0], np.cumsum(lengths)))  # by visits done
        self._seconds, self._tokens, self._began = 0.0, 0, 0.0

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Starts the clock of a step, which leaves out evaluation and saving."""
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Adds the step's time and tokens."""
        self._seconds += time.perf_counter() - self._began
        self._tokens += int(self.tokens_after[self._visits(state)] - self.tokens_after[self._visits(state, -1)])

    def _visits(self, state: TrainerState, shift: int = 0) -> int:
        return min((state.global_step + shift) * self.effective_batch, len(self.tokens_after) - 1)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Records a loss or an evaluation."""
        logs = logs or {}
        record: dict[str, Any] = {"step": state.global_step, "epoch": round(self._visits(state) / self.n_rows, 4)}
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise ModelError(
                    f"the loss is not finite at step {state.global_step}; train with a lower learning rate, now {args.learning_rate:g}"
                )
            record |= {"loss": logs["loss"], "lr": logs["learning_rate"], "grad_norm": logs.get("grad_norm")}
            record["tokens_per_s"] = round(self._rate(), 1)
        elif "eval_loss" in logs:
            record |= {key: value for key, value in logs.items() if key.startswith("eval_")}
        else:
            return  # the Trainer's closing summary
        self._write(record)
        self.on_record(record | {"steps": state.max_steps})

    def _rate(self) -> float:
        rate = self._tokens / max(self._seconds, 1e-9)
        self._seconds, self._tokens = 0.0, 0
        return rate

    def _write(self, record: dict[str, Any]) -> None:
        if self.path is None:
            return
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite, allow_nan=False) + "\n")


class StopOnSignal(TrainerCallback):
    """Ends training after the current step, with a checkpoint, once SIGINT or SIGTERM has come.

    A second signal interrupts at once; the last checkpoint then stands. With several processes the step at which all
    stop is agreed on, since the signal reaches each at another moment.
    """

    def __init__(self) -> None:
        self.received = False
        self.stopped = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles both signals inside the block; in another thread than the main one it does nothing."""
        try:
            before = {s: signal.signal(s, self._receive) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:
            before = {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Asks for a checkpoint and the end, if a signal has come to any process."""
        if self._agreed(args):
            self.stopped = True
            control.should_save = True
            control.should_evaluate = False
            control.should_training_stop = True

    def _agreed(self, args: TrainingArguments) -> bool:
        if args.world_size == 1:
            return self.received
        flag = torch.tensor(int(self.received), device=args.device)
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
        return bool(flag)
