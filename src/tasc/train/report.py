"""What a finished run reports."""

import dataclasses
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tasc.train.surgery import RowsReport


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainReport:
    """The outcome of `tasc.train.finetune`; run.json keeps it under `report`.

    Attributes:
        out: the run folder, which holds the merged checkpoint.
        steps: optimizer steps.
        epochs: passes over the training rows.
        loss: training loss of the last step, nats per target token.
        eval_loss: of the last evaluation, nats per target token; None without evaluation rows.
        eval_nats_per_base_token: the same per token of the base tokenizer; comparable across vocabularies.
        eval_nats_per_byte: the same per byte of output.
        tokens_per_s: median over the steps of tokens trained on per second, padding not counted.
        trainable_parameters: numbers that learnt.
        parameters: numbers of the merged model.
        tokens_per_output: mean target tokens of a training row, EOS included.
        base_tokens_per_output: the same with base tokens alone.
        rows: training rows.
        eval_rows: evaluation rows used.
        prompts_cut: prompts that lost their left end to max_length.
        rows_left_out: rows whose output alone exceeds max_length.
        seconds: wall time of the call that finished the run.
        resumed_from: step of the checkpoint that this call began with, 0 for a fresh run.
        rows_report: what `add_rows` did; None without a vocabulary, or where the model had its rows already.
    """

    out: str
    steps: int
    epochs: float
    loss: float | None
    eval_loss: float | None
    eval_nats_per_base_token: float | None
    eval_nats_per_byte: float | None
    tokens_per_s: float | None
    trainable_parameters: int
    parameters: int
    tokens_per_output: float
    base_tokens_per_output: float
    rows: int
    eval_rows: int
    prompts_cut: int
    rows_left_out: int
    seconds: float
    resumed_from: int
    rows_report: RowsReport | None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """The report that `to_json` wrote."""
        rows = stored["rows_report"]
        values: dict[str, Any] = stored | {"rows_report": None if rows is None else RowsReport(**rows)}
        return cls(**values)


def read_metrics(path: Path) -> dict[str, Any]:
    """The last losses and the median speed in a metrics.jsonl, under the names of `TrainReport`."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    last: dict[str, Any] = {}
    for record in records:
        last |= record
    speeds = [record["tokens_per_s"] for record in records if "tokens_per_s" in record]
    names = ("loss", "eval_loss", "eval_nats_per_base_token", "eval_nats_per_byte")
    return {name: last.get(name) for name in names} | {"tokens_per_s": statistics.median(speeds) if speeds else None}
