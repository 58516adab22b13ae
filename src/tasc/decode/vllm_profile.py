"""Measures what a pass costs in vLLM, engine included: the curve that decides how long drafts are there."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from tasc.draft.cost import StepCost
from tasc.errors import MissingExtraError, ModelError, OptionError, first_line

TOKENS, BATCH_SIZES, CONTEXTS = (1, 2, 4, 8, 16, 25), (1, 8, 32), (64, 256)
# of one row, its share of starting requests included: measured with a proposer fed as vLLM feeds it (dev/LOG.md)
DRAFT_MS = 0.10


class Probe:
    """A proposer that drafts so many tokens for every row, whatever they are: what is measured is what it costs."""

    width = 0

    def __init__(self, vllm_config: Any) -> None:
        self.n_ids = vllm_config.model_config.get_vocab_size()

    def load_model(self, *_: Any, **__: Any) -> None:
        """Called by vLLM; there is no model to load."""

    def propose(self, sampled_token_ids: Sequence[Sequence[int]], *_: Any, **__: Any) -> list[list[int]]:
        """Tokens that are hardly ever the model's own choice."""
        return [
            [(7 * ids[-1] + k) % self.n_ids for k in range(Probe.width)] if ids else [] for ids in sampled_token_ids
        ]


def profile_vllm(
    model: str,
    *,
    tokens: Sequence[int] = TOKENS,
    batch_sizes: Sequence[int] = BATCH_SIZES,
    contexts: Sequence[int] = CONTEXTS,
    repeats: int = 15,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    progress: Callable[[int], None] | None = None,
) -> StepCost:
    """Time the steps of an engine in this process: scheduling, the pass, sampling, detokenising.

    Args:
        model: folder or Hub name.
        tokens: tokens of each row in a pass, ascending from 1.
        batch_sizes: rows in a pass, ascending.
        contexts: tokens of each row before, ascending; those that do not fit into the model are left out.
        repeats: steps of each size; the fastest counts.
        dtype, trust_remote_code: as for vLLM.
        progress: called with the number of steps done.

    Raises:
        MissingExtraError: vLLM is not installed.
        ModelError: vLLM does not start with the model.
        OptionError: a list that does not ascend, or no context fits into the model.
    """
    if repeats < 1:
        raise OptionError(f"repeats must be at least 1, got {repeats}")
    StepCost(tokens, batch_sizes, contexts, [[[1.0] * len(tokens)] * len(contexts)] * len(batch_sizes))
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # steps of this process are what is timed
    try:
        vllm: Any = import_module("vllm")
    except ImportError as error:
        raise MissingExtraError("vLLM is not installed: pip install 'tasc-lm[vllm]'") from error
    speculative = {
        "method": "custom_class",
        "model": f"{__name__}.Probe",
        "num_speculative_tokens": max(max(tokens) - 1, 1),
    }
    try:
        with _hidden("llvmlite.binding.ffi"):
            llm = vllm.LLM(
                model=model, dtype=dtype, trust_remote_code=trust_remote_code, enable_prefix_caching=False,
                max_num_seqs=max(batch_sizes), disable_log_stats=True, speculative_config=speculative,
            )  # fmt: skip
    except (ValueError, RuntimeError, OSError) as error:
        raise ModelError(
            f"{model}: vLLM did not start ({first_line(error)}); its log says why, and where memory is short on a CPU "
            "VLLM_CPU_KVCACHE_SPACE=1 asks for less"
        ) from error
    longest = llm.llm_engine.model_config.max_model_len
    room = 4 * (repeats + 2) * len(tokens) + max(tokens)  # a third more than is needed where no token is accepted
    fitting = [context for context in contexts if context + room <= longest]
    if not fitting:
        raise OptionError(f"no context of {list(contexts)} and {room} tokens fits the model's {longest} positions")
    ms = [[_timed(llm.llm_engine, vllm, b, c, tokens, repeats, progress) for c in fitting] for b in batch_sizes]
    device = llm.llm_engine.vllm_config.device_config.device_type
    about = {"model": model, "device": device, "dtype": dtype, "engine": f"vllm {vllm.__version__}"}
    return StepCost(tokens, batch_sizes, fitting, ms, DRAFT_MS, about=about)


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Keep a module out of sight: vLLM 0.32's CPU build looks at every object of all modules and stumbles over llvmlite's."""
    module = sys.modules.pop(name, None)
    try:
        yield
    finally:
        if module is not None:
            sys.modules[name] = module


def _timed(
    engine: Any,
    vllm: Any,
    n_rows: int,
    context: int,
    tokens: Sequence[int],
    repeats: int,
    progress: Callable[[int], None] | None,
) -> list[float]:
    """Milliseconds of a step by tokens per row; the sizes take turns, so that what else runs here meets all alike."""
    params = vllm.SamplingParams(temperature=0, ignore_eos=True, max_tokens=None)
    n_ids = engine.model_config.get_vocab_size()
    names = [f"{n_rows}-{context}-{row}" for row in range(n_rows)]
    for row, name in enumerate(names):
        prompt = [(31 * row + 7 * place + 1) % n_ids for place in range(context)]
        engine.add_request(name, {"prompt_token_ids": prompt}, params)
    while any(not output.outputs[0].token_ids for output in engine.step()):
        pass  # prompts are read, maybe over several steps
    best = dict.fromkeys(tokens, float("inf"))
    for round_ in range(repeats + 1):  # the first warms up
        for k in tokens:
            Probe.width = k - 1
            # the first makes the drafts; behind a wider step than itself one takes up to a quarter longer
            for _ in range(2):
                engine.step()
            begin = time.perf_counter()
            engine.step()
            if round_:
                best[k] = min(best[k], 1000 * (time.perf_counter() - begin))
        if progress is not None and round_:
            progress(len(tokens))
    engine.abort_request(names)
    engine.step()
    return [best[k] for k in tokens]
