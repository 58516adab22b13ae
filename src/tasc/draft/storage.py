"""A drafter as the arrays and metadata of its file, and back.

Every index is checked, so that drafting is safe whatever a file holds.
"""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tasc.corpus import TokenCorpus
from tasc.draft import learning
from tasc.draft._features import N_WEIGHTS
from tasc.draft.cost import StepCost
from tasc.draft.file import read_file, write_file
from tasc.draft.index import Index
from tasc.draft.learning import Reliability
from tasc.draft.neighbours import Neighbours, common_prefix
from tasc.draft.options import Options, Origin, Tuned
from tasc.draft.sample import PROMPT_TOKENS, Sample, behind, preceded
from tasc.errors import DrafterFileError, TascError

if TYPE_CHECKING:
    from tasc.draft.drafter import Drafter

_NEIGHBOURS = {
    "term_ids": np.int32,
    "term_starts": np.int32,
    "postings": np.int32,
    "norms": np.float32,
    "prefix": np.int32,
}


def write(path: str | os.PathLike[str], drafter: "Drafter") -> None:
    """Write the file, atomically."""
    arrays: dict[str, NDArray[Any]] = {
        "tokens": drafter.index.tokens,
        "suffixes": drafter.index.suffixes,
        "ids": drafter.index.ids,
        "starts": drafter.index.starts,
    }
    if drafter.options.preset == "best":
        spelled = np.flatnonzero(drafter.variants != np.arange(len(drafter.variants)))
        arrays["variants"] = np.stack([spelled, drafter.variants[spelled]], axis=1).astype(np.int32)
        arrays["weights"] = drafter.weights
    if drafter.neighbours is not None:
        arrays |= {name: getattr(drafter.neighbours, name) for name in _NEIGHBOURS}
    if drafter.sample is not None:
        prefix = common_prefix(drafter.sample.prompts)  # a template, once instead of in front of each
        prompts = behind(drafter.sample.prompts, len(prefix))
        arrays |= {
            "sample_rows": drafter.sample.rows,
            "sample_prefix": prefix,
            "sample_tokens": prompts.tokens,
            "sample_offsets": prompts.offsets,
        }
    metadata = {
        "vocab_size": drafter.vocab_size,
        "eos_id": drafter.eos_id,
        "options": asdict(drafter.options),
        "origin": asdict(drafter.origin),
        "tuned": None if drafter.tuned is None else asdict(drafter.tuned),
        "reliability": None if drafter.reliability is None else asdict(drafter.reliability),
    }
    write_file(path, arrays, metadata)


def read(path: str | os.PathLike[str], *, verify: bool) -> dict[str, Any]:
    """The parts of a drafter, by the names of its attributes.

    Raises:
        DrafterFileError: not a drafter file, of another version, cut short or damaged.
        OSError: the file cannot be opened.
    """
    metadata, arrays = read_file(path, verify=verify)
    try:
        return _parts(metadata, arrays)
    except (KeyError, TypeError, ValueError, OverflowError, TascError) as error:
        reason = f"{error!s:.200}" if not isinstance(error, KeyError) else f"{error} is missing"
        raise DrafterFileError(
            f"{os.fspath(path)}: not a usable drafter: {reason}; rebuild it with 'tasc draft build'"
        ) from error


def _parts(metadata: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """The parts of a drafter; raises ValueError and its like where something does not fit."""
    vocab_size, eos_id = metadata["vocab_size"], metadata["eos_id"]
    if type(vocab_size) is not int or type(eos_id) is not int or not 0 <= eos_id < vocab_size < 1 << 30:
        raise ValueError(f"vocab_size {vocab_size!r} and eos_id {eos_id!r}")
    options, origin = Options(**metadata["options"]), Origin(**metadata["origin"])
    if not all(isinstance(value, str) for value in asdict(origin).values()):
        raise ValueError("origin must hold texts")
    tokens, suffixes, ids, starts = (_array(arrays, name, np.int32) for name in ("tokens", "suffixes", "ids", "starts"))
    if len(tokens) != len(suffixes) or len(starts) != len(ids) + 1:
        raise ValueError("arrays of the index have different lengths")
    _within("tokens", tokens, vocab_size + 2)
    _within("suffixes", suffixes, len(tokens))
    _within("ids", ids, vocab_size + 2)
    _ascending("ids", ids)
    _bounds("starts", starts, len(tokens))
    index = Index(tokens, suffixes, vocab_size, eos_id, ids, starts)
    # parts of rows, which have a marker of their own, stand in pruned files alone
    n_rows = np.count_nonzero(tokens >= vocab_size if options.min_rows == 1 else tokens == vocab_size)
    if n_rows != index.n_rows or (len(tokens) and tokens[0] < vocab_size):
        raise ValueError(f"{n_rows} rows in the text, {index.n_rows} in its index")
    variants = np.arange(vocab_size + 2, dtype=np.int32)
    weights = learning.initial_weights()
    neighbours = taught = None
    if options.preset == "best":
        pairs = _array(arrays, "variants", np.int32, columns=2)
        _within("variants", pairs, vocab_size)
        variants[pairs[:, 0]] = pairs[:, 1]
        weights = _array(arrays, "weights", np.float32)
        if len(weights) != N_WEIGHTS or not np.isfinite(weights).all():
            raise ValueError(f"{len(weights)} weights, expected {N_WEIGHTS} numbers")
    if "term_ids" in arrays:
        neighbours = _restored_neighbours(arrays, index.n_rows)
    if "sample_rows" in arrays:
        rows, flat = _array(arrays, "sample_rows", np.int32), _array(arrays, "sample_tokens", np.int32)
        _within("sample_rows", rows, index.n_rows)
        prompts = TokenCorpus(flat, _array(arrays, "sample_offsets", np.int64))
        prefix = _array(arrays, "sample_prefix", np.int32)
        if len(prompts) != len(rows):
            raise ValueError("the sample's rows and prompts differ in number")
        if len(rows) * len(prefix) + len(flat) > PROMPT_TOKENS:
            raise ValueError(f"the sample's prompts have more than {PROMPT_TOKENS} tokens")
        taught = Sample(rows, preceded(prompts, prefix))
    found = metadata["reliability"]
    reliability = None
    if found is not None:
        predicted, observed = (tuple(map(float, found[name])) for name in ("predicted", "observed"))
        if not len(found["counts"]) == len(predicted) == len(observed):
            raise ValueError("the table of reliability has columns of different lengths")
        reliability = Reliability(tuple(map(int, found["counts"])), predicted, observed)
    return {
        "index": index,
        "options": options,
        "origin": origin,
        "neighbours": neighbours,
        "variants": variants,
        "weights": weights,
        "sample": taught,
        "reliability": reliability,
        "tuned": _tuned(metadata["tuned"]),
    }


def _tuned(found: dict[str, Any] | None) -> Tuned | None:
    if found is None:
        return None
    StepCost.from_json(found["cost"])  # raises where it is no curve
    return Tuned(int(found["max_draft"]), found["cost"], int(found["rows"]), tuple(map(float, found["speedup"])))  # type: ignore[arg-type]


def _restored_neighbours(arrays: dict[str, NDArray[Any]], n_rows: int) -> Neighbours:
    parts = {name: _array(arrays, name, kind) for name, kind in _NEIGHBOURS.items()}
    if len(parts["norms"]) != n_rows or len(parts["term_starts"]) != len(parts["term_ids"]) + 1:
        raise ValueError("arrays of the prompts have different lengths")
    _ascending("term_ids", parts["term_ids"])
    _bounds("term_starts", parts["term_starts"], len(parts["postings"]))
    _ascending("term_starts", parts["term_starts"])  # each term has a row: without any, weights are divided by 0
    _within("postings", parts["postings"], n_rows)
    if not (parts["norms"] >= 0).all():
        raise ValueError("norms must not be negative")
    return Neighbours(**parts)


def _array(arrays: dict[str, NDArray[Any]], name: str, kind: Any, *, columns: int = 0) -> NDArray[Any]:
    array = arrays[name]
    if array.dtype != kind or array.ndim != (2 if columns else 1) or (columns and array.shape[1] != columns):
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    return array


def _within(name: str, array: NDArray[np.int32], limit: int) -> None:
    if array.size and (array.min() < 0 or array.max() >= limit):
        raise ValueError(f"{name} from {array.min()} to {array.max()}, expected 0 to {limit - 1}")


def _ascending(name: str, array: NDArray[np.int32]) -> None:
    if not (array[1:] > array[:-1]).all():
        raise ValueError(f"{name} do not ascend")


def _bounds(name: str, array: NDArray[np.int32], end: int) -> None:
    if int(array[0]) != 0 or int(array[-1]) != end or not (array[1:] >= array[:-1]).all():
        raise ValueError(f"{name} do not ascend from 0 to {end}")
