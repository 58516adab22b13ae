"""What drafts bring a model of any size whose outputs are a task's own, on a CPU; of stories, which nothing predicts, what they cost.

A Qwen2 model with random weights takes the time; what it writes is steered, by its logits, to the test outputs themselves. So
models are measured that cannot be trained here (`--model 0.5b` has the size and the tokens of Qwen2.5-0.5B), and outputs that a
small trained model does not write: it repeats itself on stories, and repetitions are easy to draft. The drafter holds the training outputs,
and drafting goes by the curve that `tasc profile` measures. Rows are decoded one by one, the ways in turns, with drafts by one
`tasc.speculative` for all, which carries on what it learnt; every output is compared. `all verified` verifies all
that is drafted, `as torch has it` is plain decoding of the model without `tasc.decode.lay_out_for_cpu`. Prints a table, then one JSON line.
About 5 minutes on one core for the defaults.

    OMP_NUM_THREADS=1 python benchmarks/steered.py [--corpus stories] [--model 4m] [--rows 30] [--rounds 3] [--json FILE]
"""

import argparse
import copy
import json
import statistics
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from _commit import commit_and_date
from _measuring import machine
from _models import PRESETS, SHARED, shared_split, train_tokenizer
from _tasc_spec_systems import ALL_OF_IT
from cpu_passes import MODELS
from transformers import Qwen2Config, Qwen2ForCausalLM, set_seed

import tasc
from tasc.decode import lay_out_for_cpu
from tasc.decode.profile import profile
from tasc.files import write_json

LONGEST_PROMPT, LONGEST_OUTPUT = 400, 300  # tokens
CERTAIN = 1e4  # added to a logit


class Steered:
    """A model whose greedy output is a given one: the time of its passes is real, the text is not its own."""

    def __init__(self, model: Any) -> None:
        self.model, self.ids = model, np.empty(0, np.int64)
        forward = model.forward

        @wraps(forward)
        def steered(*args: Any, **options: Any) -> Any:
            output = forward(*args, **options)
            logits, positions = output.logits, options.get("position_ids")
            if positions is None:  # plain decoding leaves them to the model
                end = output.past_key_values.get_seq_length()
                places = range(end - logits.shape[1], end)
            else:
                places = positions[0, -logits.shape[1] :].tolist()
            for column, place in enumerate(places):
                logits[0, column, self.ids[min(place + 1, len(self.ids) - 1)]] += CERTAIN
            return output

        model.forward = steered

    def write(self, prompt: list[int], output: list[int], end_id: int, **options: Any) -> Any:
        """Decode one row."""
        self.ids = np.array([*prompt, *output, end_id])
        done = tasc.generate(
            self.model, [prompt], eos_id=end_id, max_new_tokens=len(output) + 1, batch_size=1, **options
        )
        assert done.outputs == [output], "the output is another one"
        return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="stories")
    parser.add_argument("--model", default="4m", choices=MODELS)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    preset = PRESETS["medquad"]  # whole prompts
    train, test = (shared_split(args.corpus, split, preset) for split in ("train", "test"))
    if args.model == "0.5b":
        tokenizer, n_ids = tasc.load_tokenizer(SHARED / "tokenizers" / "qwen2.5"), MODELS[args.model]["vocab_size"]
    else:
        tokenizer = train_tokenizer(train, 4000)
        n_ids = len(tokenizer)
    end_id: Any = tokenizer.eos_token_id
    rows: Any = [
        (
            tokenizer(row.prompt)["input_ids"][:LONGEST_PROMPT] or [end_id],
            tokenizer(row.completion)["input_ids"][:LONGEST_OUTPUT],
        )
        for row in test[: args.rows]
    ]
    set_seed(0)
    sizes: dict[str, Any] = MODELS[args.model] | {"vocab_size": n_ids, "tie_word_embeddings": True}
    stock: Any = Qwen2ForCausalLM(Qwen2Config(**sizes)).float().eval()
    model = lay_out_for_cpu(copy.deepcopy(stock))
    cost = profile(model, batch_sizes=(1,))
    drafter = tasc.build_drafter(train, tokenizer, template="none")
    steered, as_it_was = Steered(model), Steered(stock)
    rounds: list[dict[str, float]] = []
    counts: dict[str, Any] = {}
    for turn in range(args.rounds + 1):  # the first one warms up
        ways: dict[str, Any] = {
            "plain": None,
            "drafts": tasc.speculative(drafter, cost=cost),
            "all verified": tasc.speculative(drafter, cost=ALL_OF_IT, switch_off=False),
            "as torch has it": None,
        }
        seconds = dict.fromkeys(ways, 0.0)
        passes, drafted = dict.fromkeys(ways, 0), dict.fromkeys(ways, 0)
        for prompt, output in rows:
            for way, drafting in ways.items():
                writer = as_it_was if way == "as torch has it" else steered
                done = writer.write(prompt, output, end_id, drafter=drafting)
                seconds[way] += sum(done.seconds)
                passes[way] += sum(done.passes)
                drafted[way] += sum(request.drafted for request in done.requests)
        if turn:
            rounds.append({way: 1000 * taken / len(rows) for way, taken in seconds.items()})
            counts = {"passes": passes, "drafted": drafted}
    tokens = sum(len(output) + 1 for _, output in rows)
    results = {}
    for way in rounds[0]:
        ratios = [taken["plain"] / taken[way] for taken in rounds]
        results[way] = {
            "ms_per_output": round(statistics.median(taken[way] for taken in rounds), 2),
            "speed_up": round(statistics.median(ratios), 4),
            "range": [round(min(ratios), 4), round(max(ratios), 4)],
            "tokens_per_pass": round(tokens / counts["passes"][way], 3),
            "drafted_per_pass": round(counts["drafted"][way] / counts["passes"][way], 3),
        }
        one = results[way]
        print(
            f"{way:>15}: {one['ms_per_output']:8.2f} ms per output, {one['speed_up']:.3f}x ({one['range'][0]:.3f}-{one['range'][1]:.3f}), "
            f"{one['tokens_per_pass']:.2f} tokens per pass at {one['drafted_per_pass']:.2f} drafted"
        )
    report = {
        **commit_and_date(), "machine": machine(), "corpus": args.corpus,
        "model": args.model, "rows": len(rows), "rounds": args.rounds,
        "tokens_per_output": tokens / len(rows), "systems": results,
    }  # fmt: skip
    print(json.dumps(report))
    if args.json:
        write_json(args.json, report)


if __name__ == "__main__":
    main()
