"""Lookup caches for llama.cpp (`-lcs`, `-lcd`): which token follows which n-gram, and how often.

The layout and the thresholds are those of `common/ngram-cache.{h,cpp}` (read in the build that llama-cpp-python 0.3.36 holds).
A file is records one behind the other, no header: `int32 key[4]` (unused = -1), `int32 n > 0`, then n times `int32 token,
int32 count > 0`. llama.cpp reads them in the machine's own byte order; little-endian is written, as on x86 and ARM.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasc.draft import Drafter
from tasc.draft.index import Index
from tasc.errors import DataError, DrafterFileError, FingerprintError
from tasc.export import _lookup as kernels
from tasc.export.sidecar import write_sidecar
from tasc.files import atomic_write
from tasc.progress import Progress, silent

TARGET = "llama-cpp-lookup"
STATIC, DYNAMIC, SIDECAR = "lookup-static.bin", "lookup-dynamic.bin", "lookup.json"
_BUFFER = 1 << 20  # numbers written at a time


@dataclass(frozen=True, slots=True)
class Threshold:
    """When llama.cpp drafts from an n-gram.

    Attributes:
        n: tokens in the key.
        least: it must have been followed so often.
        percent: its most frequent follower must have so much of them.
    """

    n: int
    least: int
    percent: int


# draft_min_sample_size_lax[1], draft_min_percent_lax[1]
STATIC_THRESHOLDS = (Threshold(2, 2, 50),)
# draft_min_sample_size_strict, draft_min_percent_strict
DYNAMIC_THRESHOLDS = (Threshold(1, 4, 75), Threshold(2, 3, 66), Threshold(3, 2, 66), Threshold(4, 2, 66))

# llama.cpp multiplies 100 * static count * dynamic (or context) count in 32 bits and picks the largest product: beyond
# 2**31 it wraps, and the most frequent follower is never drafted. With these bounds a count of 21,474 in the context fits.
MOST_STATIC, MOST_DYNAMIC = 1_000, 10_000


def export_lookup_caches(
    drafter: Drafter,
    folder: str | os.PathLike[str],
    *,
    source: str | os.PathLike[str] | None = None,
    enriched: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write lookup-static.bin, lookup-dynamic.bin and lookup.json into a folder, each atomically, the last one last.

    Every n-gram with its follower lies in one row, end token included; n-grams that llama.cpp would never draft from are
    left out. The ids are the drafter's, so the GGUF must list its tokens in the order of the tokenizer, as llama.cpp's
    converter writes them.

    Args:
        drafter: what is exported.
        folder: where the three files go; made if need be.
        source: the drafter's file, to be named in lookup.json.
        enriched: the GGUF is of the enriched model that the drafter was built for, and holds its n-grams as tokens.
        progress: see `tasc.progress.Progress`.

    Returns:
        What lookup.json says.

    Raises:
        FingerprintError: the drafter speaks n-grams that the GGUF of a base model does not have.
        DataError: nothing passes the thresholds.
        OSError: the folder cannot be written.

    Examples:
        ```python
        export_lookup_caches(Drafter.load("task.tasc"), "lookup", source="task.tasc")
        ```
    """
    if drafter.origin.enriched and not enriched:
        raise FingerprintError(
            f"the drafter speaks the n-grams of {drafter.origin.vocabulary or 'a model'}, which the GGUF of a base model "
            "does not have; pass enriched (--enriched) for a GGUF of the enriched model, or build a drafter with the base "
            "model as --tokenizer"
        )
    place = Path(folder)
    files = {"dynamic": place / DYNAMIC, "static": place / STATIC}
    index = drafter.index
    n_passes = len(DYNAMIC_THRESHOLDS) + len(STATIC_THRESHOLDS)
    with progress("counting n-grams", total=n_passes * len(index.tokens), unit="tokens") as advance:
        dynamic = write_cache(files["dynamic"], index, DYNAMIC_THRESHOLDS, most=MOST_DYNAMIC, advance=advance)
        static = write_cache(
            files["static"], index, STATIC_THRESHOLDS, most=MOST_STATIC, may_be_empty=True, advance=advance
        )
    return write_sidecar(
        place / SIDECAR,
        TARGET,
        drafter,
        source=source,
        options={"enriched": enriched, "most_dynamic": MOST_DYNAMIC, "most_static": MOST_STATIC},
        counts={"dynamic": dynamic, "static": static},
        files=files,
        flags=["--spec-type", "ngram-cache", "-lcs", str(files["static"]), "-lcd", str(files["dynamic"])],
    )


def write_cache(
    path: str | os.PathLike[str],
    index: Index,
    thresholds: Sequence[Threshold],
    *,
    most: int,
    may_be_empty: bool = False,
    advance: Callable[[int], None] = lambda _n: None,
) -> list[dict[str, int]]:
    """Write one lookup cache, atomically: n-grams by length, then in the order of their ids, followers ascending.

    Args:
        thresholds: one for each length of n-grams.
        most: larger counts are scaled down to this within their n-gram; what becomes zero is left out.
        may_be_empty: whether a file without n-grams is fine; llama.cpp reads it.
        advance: called with the tokens done since the last call.

    Returns:
        For each length: n-grams that are followed by something, those written, and their followers.

    Raises:
        DataError: no n-gram passes; the file stays as it was.
        DrafterFileError: the index is out of order, which only a damaged drafter file explains.
    """
    counts = []
    with atomic_write(path, "wb") as file:
        for threshold in thresholds:
            stats = np.zeros(3, np.int64)
            for records in _records(index, threshold, most, stats):
                file.write(records.astype("<i4", copy=False).data)
            found = zip(("ngrams", "written", "followers"), stats.tolist(), strict=True)
            counts.append(asdict(threshold) | dict(found))
            advance(len(index.tokens))
        if not may_be_empty and not any(found["written"] for found in counts):
            raise DataError(
                f"no n-gram of {index.n_rows:,} rows occurs often enough for llama.cpp to draft from it; build the drafter "
                "from more rows"
            )
    return counts


def _records(index: Index, threshold: Threshold, most: int, stats: NDArray[np.int64]) -> Iterator[NDArray[np.int32]]:
    """The records of all n-grams of one length, int32, as many at a time as fit into a buffer."""
    # the followers of one n-gram always fit
    out = np.empty(max(_BUFFER, kernels.HEADER + 2 * min(len(index.ids), len(index.tokens))), np.int32)
    first = 0
    while first < len(index.suffixes):
        begin = first
        first, used = kernels.fill(
            index.tokens, index.suffixes, first, threshold.n, index.start_id, threshold.least, threshold.percent, most,
            out, stats,
        )  # fmt: skip
        if first == begin:
            raise DrafterFileError("the drafter's index is out of order; build it again with 'tasc draft build'")
        yield out[:used]
