"""External corpus for SGLang's NGRAM speculation: the outputs of a task as text, one JSON string a line.

SGLang tokenises each line without special tokens and puts all lines into one suffix automaton (its
`speculative/cpp_ngram/external_corpus.py` and `suffix_automaton.cpp`). What that means for the file:

- End tokens are left out: a drafted one never saves a pass, because the pass that verifies the token before it yields it.
- Where several tokens may follow, match type PROB takes the most frequent, BFS, the default, the one that stands last in the
  file. So the most frequent output stands last, and the flags ask for PROB.
- Counts travel only as repeated lines.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus, encode_batch, fingerprint, load_tokenizer
from tasc.draft import Drafter
from tasc.errors import DataError, FingerprintError, OptionError
from tasc.export.sidecar import write_sidecar
from tasc.files import atomic_write
from tasc.progress import Progress, silent

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TARGET = "sglang-corpus"
DRAFT_TOKENS = 12  # SGLang's own default
MAX_TOKENS = 10_000_000  # SGLang's own default; it does not start with a larger corpus
SHORTEST = 2  # a line of one token says nothing about what follows
_BATCH = 1024  # lines decoded at a time


def export_corpus(
    drafter: Drafter,
    path: str | os.PathLike[str],
    *,
    tokenizer: "str | os.PathLike[str] | PreTrainedTokenizerFast | None" = None,
    source: str | os.PathLike[str] | None = None,
    repeats: bool = False,
    draft_tokens: int = DRAFT_TOKENS,
    budget: int | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the drafter's outputs as SGLang's external corpus, and beside it `NAME.about.json`, each atomically.

    Equal outputs stand once, the most frequent last. Of a drafter that does not hold whole rows (`min_rows`) each part is a
    line, if the tokenizer reads it back as the same ids.

    Args:
        drafter: what is exported.
        path: the JSONL file.
        tokenizer: that the drafter was built with; default: where it was then.
        source: the drafter's file, to be named in the sidecar.
        repeats: write each output as often as it occurs, so that match type PROB knows the counts.
        draft_tokens: for SGLang's `--speculative-num-draft-tokens`.
        budget: of them, for drafts from this file; default: two thirds. The others come from prompts and earlier requests.
        progress: see `tasc.progress.Progress`.

    Returns:
        What the sidecar says. Its `flags` are SGLang's command line options, `counts["changed"]` the lines that the tokenizer
        does not read back as the same ids.

    Raises:
        FingerprintError: the tokenizer is another one, or the drafter speaks n-grams, which no text gives back.
        OptionError: `draft_tokens` or `budget` out of range, or no tokenizer is known.
        DataError: no output is long enough.
        TokenizerError: the tokenizer cannot be loaded.

    Examples:
        ```python
        export_corpus(Drafter.load("task.tasc"), "corpus.jsonl", source="task.tasc")
        ```
    """
    chosen = draft_tokens * 2 // 3 if budget is None else budget
    if draft_tokens < 2 or not 0 < chosen < draft_tokens:
        raise OptionError(
            f"draft_tokens must be at least 2 and budget from 1 to draft_tokens - 1, got {draft_tokens} and {chosen}"
        )
    loaded = _tokenizer(drafter, tokenizer)
    pieces = drafter.index.outputs()  # parts of rows are rows there
    pieces = pieces.take(np.flatnonzero(pieces.lengths >= SHORTEST))
    if not len(pieces):
        raise DataError(f"no output of {SHORTEST} tokens or more; build the drafter from other rows")
    target = Path(path)
    lines, counts = _ordered(pieces)
    whole = drafter.options.min_rows == 1
    found = _write(target, lines, counts if repeats else np.ones_like(counts), loaded, whole, progress)
    flags = [
        "--speculative-algorithm", "NGRAM",
        "--speculative-num-draft-tokens", str(draft_tokens),
        "--speculative-ngram-match-type", "PROB",
        "--speculative-ngram-external-corpus-path", str(target),
        "--speculative-ngram-external-sam-budget", str(chosen),
    ]  # fmt: skip
    if found["tokens"] > MAX_TOKENS:
        flags += ["--speculative-ngram-external-corpus-max-tokens", str(found["tokens"])]
    return write_sidecar(
        target.with_name(f"{target.name}.about.json"),
        TARGET,
        drafter,
        source=source,
        options={"repeats": repeats, "draft_tokens": draft_tokens, "budget": chosen},
        counts={"outputs": len(pieces), "distinct": len(lines)} | found,
        files={"corpus": target},
        flags=flags,
    )


def _tokenizer(
    drafter: Drafter, given: "str | os.PathLike[str] | PreTrainedTokenizerFast | None"
) -> "PreTrainedTokenizerFast":
    if drafter.origin.enriched:
        raise FingerprintError(
            f"the drafter speaks the n-grams of {drafter.origin.vocabulary or 'a model'}, and SGLang would read text as "
            "base ids, which the enriched model never writes; build a drafter with the base model as --tokenizer"
        )
    if given is None and not drafter.tokenizer:
        raise OptionError("the drafter does not say which tokenizer it was built with; pass one (--tokenizer)")
    loaded = load_tokenizer(drafter.tokenizer if given is None else given)
    drafter.require(fingerprint(loaded))
    return loaded


def _ordered(pieces: TokenCorpus) -> tuple[TokenCorpus, NDArray[np.int64]]:
    """Distinct rows with their counts, the most frequent last; of equally frequent ones the first comes last."""
    lines, counts = pieces.unique()
    order = np.argsort(-counts, kind="stable")[::-1]
    return lines.take(order), counts[order]


def _write(
    path: Path,
    lines: TokenCorpus,
    times: NDArray[np.int64],
    tokenizer: "PreTrainedTokenizerFast",
    whole: bool,
    progress: Progress,
) -> dict[str, int]:
    """Write each line as often as `times` says; returns what was written."""
    found = {"lines": 0, "tokens": 0, "changed": 0, "left_out": 0}
    with atomic_write(path) as file, progress("writing the corpus", total=len(lines), unit="lines") as advance:
        for start in range(0, len(lines), _BATCH):
            batch = [lines[row].tolist() for row in range(start, min(start + _BATCH, len(lines)))]
            texts = tokenizer.backend_tokenizer.decode_batch(batch, skip_special_tokens=False)
            again = encode_batch(tokenizer, texts)
            for ids, text, read, n in zip(batch, texts, again, times[start : start + _BATCH].tolist(), strict=True):
                if ids != read and not (whole and read):
                    found["left_out"] += 1
                    continue
                file.write((json.dumps(text, ensure_ascii=False) + "\n") * n)
                found["lines"] += n
                found["tokens"] += n * (len(read) + 1)  # SGLang counts a separator before every line but the first
                found["changed"] += n * (ids != read)
            advance(len(batch))
        if not found["lines"]:
            raise DataError(
                "the tokenizer reads none of the drafter's rows back as the same ids; build the drafter with min_rows 1"
            )
        found["tokens"] -= 1
    return found
