"""What a user has after `tasc draft build` and `tasc generate --record --output`, made without a model, by any names."""

from dataclasses import replace
from pathlib import Path

import tiny
from tasc.corpus import Row, TokenCorpus
from tasc.draft import Drafter, build_drafter
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.recorded import Recorded, append_log
from tasc.evals import Prediction, write_predictions
from tasc.replay import replay
from tasc.vocab import EnrichedVocabulary

TOKENIZER = tiny.byte_level_bpe()
ROOMS = ("attic", "hall", "kitchen", "cellar", "garage")
ROWS = [Row(f"light in the {ROOMS[k % 5]} {k}", f"intent: light_on, room: {ROOMS[k % 5]}, n: {k}") for k in range(60)]
TRAINING, ASKED = ROWS[:40], ROWS[40:]
LOG, DRAFTER, OUTPUTS = "monday.log", "mine.bin", "answers.txt"


def build(rows: list[Row] = TRAINING, **options) -> Drafter:
    return build_drafter(rows, options.pop("tokenizer", TOKENIZER), template="none", **options)


def record(
    drafter: Drafter, path: Path, vocabulary: EnrichedVocabulary | None = None, rows: list[Row] = ASKED
) -> list[Recorded]:
    """Append a run of the drafter over `rows`, whose outputs are the references, to a log."""
    prompts = TokenCorpus.encode([row.prompt for row in rows], TOKENIZER)
    outputs = TokenCorpus.encode([row.completion for row in rows], TOKENIZER)
    if vocabulary is not None:
        prompts, outputs = vocabulary.merge_corpus(prompts), vocabulary.merge_corpus(outputs)
    ended = [[*ids, drafter.eos_id] for ids in outputs]
    cost = StepCost.default("cpu")
    done = replay(
        drafter, prompts, ended, control=Control(cost), before_prefill=True, limits=[60] * len(rows), batch_size=4
    )
    timed = [replace(request, ms=1.5 + place) for place, request in enumerate(done.requests)]
    about = {"fingerprint": drafter.fingerprint, "max_draft": 10, "tree": True, "cost": cost.to_json()}
    append_log(path, timed, about=about)
    return timed


def write_run(folder: Path) -> None:
    """tok/, a drafter that says that it was built with it, a log, and the outputs of the same run."""
    TOKENIZER.save_pretrained(folder / "tok")
    drafter = build(tokenizer=folder / "tok")
    drafter.save(folder / DRAFTER)
    requests = record(drafter, folder / LOG)
    pairs = reversed(list(zip(ASKED, requests, strict=True)))  # a log has its own order
    write_predictions(
        folder / OUTPUTS,
        [
            Prediction(row.prompt, row.completion, row.completion, 9, request.passes, request.ms)
            for row, request in pairs
        ],
    )
