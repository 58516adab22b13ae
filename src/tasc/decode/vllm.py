"""Drafts in vLLM: a proposer for `--speculative-config '{"method": "custom_class", "model": "tasc.decode.vllm.Proposer", ...}'`.

`tasc serve` writes that command line. Options travel in `--additional-config '{"tasc": {...}}'`, see `ServeOptions`. vLLM
itself verifies the drafts, so outputs are those of vLLM without them. This module imports nothing of vLLM's: it is
handed all that it needs (but for `_vllm_repair.py`). Written for vLLM 0.32 and 0.33, model runner V1.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasc.decode._vllm_repair import repair_sampling
from tasc.decode.batch import BatchDrafts, BatchStats
from tasc.decode.drafting import check_drafter, curve_for
from tasc.draft.adaptive import AdaptiveDrafter
from tasc.draft.control import Control
from tasc.draft.cost import StepCost
from tasc.draft.drafter import Drafter
from tasc.draft.interface import SOURCES
from tasc.draft.memory import Memory
from tasc.draft.mixture import ROOM
from tasc.errors import ModelError, OptionError
from tasc.vocab.hub import FILE_NAME, local_folder
from tasc.vocab.vocabulary import EnrichedVocabulary

MOST_MEMORY = 1 << 24
NO_STAGES = "vLLM 0.32 has no drafts with pipeline stages; use --tensor-parallel-size or --data-parallel-size, or serve without a drafter"
MAX_DRAFT = 24  # of a drafter that was not tuned; rows are not padded to the longest draft here


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What `additional_config["tasc"]` may hold.

    Attributes:
        drafters: name of the served model or of a LoRA adapter -> drafter file; the name `""` stands for every request
            that no other name fits.
        vocabulary: folder of the model's n-grams; default: the model's own folder if it has some.
        cost: step-cost file of `tasc profile --engine vllm`; default: the curve that the drafter was tuned for if that was
            measured in vLLM on the same kind of device, else one typical of the device.
        memory_tokens: tokens of earlier outputs that later requests draft from as well; 0: each request for itself.
        adapt: let the drafters' weights follow what the model writes (`tasc.draft.adaptive.AdaptiveDrafter`).
        min_gain: by what share a drafted pass must be expected to beat a plain one.
        switch_off: False keeps drafting even while it loses time.
        enabled: False drafts nothing, with everything else as it is.

    Raises:
        OptionError: a value out of range.
    """

    drafters: dict[str, str] = field(default_factory=dict)
    vocabulary: str | None = None
    cost: str | None = None
    memory_tokens: int = 0
    adapt: bool = True
    min_gain: float = 0.0
    switch_off: bool = True
    enabled: bool = True

    def __post_init__(self) -> None:
        kinds: dict[str, Any] = {"drafters": dict, "memory_tokens": int, "min_gain": int | float}
        kinds |= {"vocabulary": str | None, "cost": str | None, "adapt": bool, "switch_off": bool, "enabled": bool}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
                raise OptionError(f"tasc option {name} has the wrong type, {value!r}; see 'tasc serve --help'")
        if not self.drafters or not all(isinstance(path, str) for path in self.drafters.values()):
            raise OptionError(
                f"tasc option drafters must name at least one drafter file, got {self.drafters!r}; build one with "
                "'tasc draft build'"
            )
        if not 0 <= self.memory_tokens <= MOST_MEMORY:
            raise OptionError(
                f"memory_tokens must be from 0 to {MOST_MEMORY}, got {self.memory_tokens}; see 'tasc serve --help'"
            )
        if not 0 <= self.min_gain < float("inf"):
            raise OptionError(f"min_gain must be a number of at least 0, got {self.min_gain}; see 'tasc serve --help'")

    @classmethod
    def of(cls, given: Any) -> "ServeOptions":
        """Read them from JSON's values; `drafters` may be one file for every request.

        Raises:
            OptionError: not an object, an unknown name, or a value out of range.
        """
        if not isinstance(given, Mapping):
            raise OptionError(f"additional_config['tasc'] must be an object with 'drafters', got {given!r}")
        known = {option.name for option in fields(cls)}
        if unknown := sorted(given.keys() - known):
            raise OptionError(f"unknown tasc option {unknown[0]!r}; known are {', '.join(sorted(known))}")
        values = dict(given)
        if isinstance(values.get("drafters"), str):
            values["drafters"] = {"": values["drafters"]}
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """The options that differ from their defaults."""
        plain = {option.name: option.default for option in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != plain[name]}


def load_drafters(
    options: ServeOptions, model: str, n_ids: int, tokenizer: str | None = None
) -> tuple[dict[str, Drafter], EnrichedVocabulary | None]:
    """The drafters by name and the model's n-grams, all of one tokenizer.

    Args:
        model: folder or Hub name.
        n_ids: of the model.
        tokenizer: its tokenizer's, where that lies elsewhere.

    Raises:
        DrafterFileError, VocabularyError: a file is damaged or missing.
        FingerprintError: a drafter is for another tokenizer or other n-grams.
        ModelError: the model has fewer ids than a drafter.
    """
    from tasc.corpus import load_tokenizer

    vocabulary = None
    if options.vocabulary is not None or (local_folder(model) / FILE_NAME).is_file():
        vocabulary = EnrichedVocabulary.load(options.vocabulary or model)
    drafters = {name: Drafter.load(path) for name, path in options.drafters.items()}
    loaded = load_tokenizer(tokenizer or model)
    for name, drafter in drafters.items():
        check_drafter(drafter, loaded, vocabulary, source=options.drafters[name])
        if drafter.vocab_size > n_ids:
            raise ModelError(
                f"{options.drafters[name]} has {drafter.vocab_size} ids, {model} {n_ids}; use the drafter that was built "
                "with this model's tokenizer"
            )
    return drafters, vocabulary


def check_names(names: Sequence[str], served: Sequence[str]) -> None:
    """Refuse drafters for what is not served.

    Raises:
        OptionError: a name is neither of a served model nor of an adapter, so its drafter would never be used.
    """
    for name in names:
        if name and name not in served:
            raise OptionError(
                f"drafter for {name!r}, but served are {', '.join(served)}; use one of these names, or none for all of them"
            )


class Proposer:
    """What vLLM calls after every pass; see the module.

    Args:
        vllm_config: vLLM's own.

    Raises:
        OptionError, DrafterFileError, VocabularyError, FingerprintError: see `ServeOptions` and `load_drafters`.
        ModelError: the model keeps a state that cannot be rolled back, or its prompts are no tokens.
    """

    def __init__(self, vllm_config: Any) -> None:
        options = ServeOptions.of((vllm_config.additional_config or {}).get("tasc"))
        model = vllm_config.model_config
        _check_model(model)
        parallel = vllm_config.parallel_config
        if parallel.pipeline_parallel_size > 1:
            raise OptionError(NO_STAGES)
        drafters, vocabulary = load_drafters(options, model.model, model.get_vocab_size(), model.tokenizer)
        self.options, self._names = options, list(drafters)
        served = [model.served_model_name] if isinstance(model.served_model_name, str) else model.served_model_name
        adapters = vllm_config.lora_config is not None
        if not adapters:
            check_names(self._names, served)
        self._base = next((self._names.index(name) for name in [*served, ""] if name in self._names), -1)
        self._one_for_all = self._base == 0 and (not adapters or self._names == [""])
        self._drafts = BatchDrafts(
            list(drafters.values()),
            _control(options, list(drafters.values()), vllm_config),
            max_length=model.max_model_len,
            vocabulary=vocabulary,
            memory_tokens=options.memory_tokens,
            adapt=options.adapt,
        )
        _warm_up(self._drafts)
        if vllm_config.device_config.device_type == "cpu":
            repair_sampling()
        # all ranks draft the same; one of them counts
        self._metrics = Metrics() if parallel.rank % parallel.tensor_parallel_size == 0 else None

    def load_model(self, *_: Any, **__: Any) -> None:
        """Called by vLLM; there is no model to load."""

    def propose(
        self,
        sampled_token_ids: Sequence[Sequence[int]],
        num_tokens_no_spec: NDArray[np.integer],
        token_ids_cpu: NDArray[np.int32],
        **_: Any,
    ) -> list[list[int]]:
        """Called by vLLM after each pass.

        Args:
            sampled_token_ids: ids that the pass brought, row by row; none where the prompt is not read to its end.
            num_tokens_no_spec: int[n_slots]: ids of each row so far, prompt included.
            token_ids_cpu: int32[n_slots, width]: the ids.

        Returns:
            The ids to verify of each row in the next pass, none where nothing pays.
        """
        if not self.options.enabled:
            return [[] for _ in sampled_token_ids]
        begin = time.perf_counter()
        batch = sys._getframe(1).f_locals["self"].input_batch  # what vLLM does not say, the batch of its caller does
        drafters = None if self._one_for_all else self._by_row(batch, len(sampled_token_ids))
        longest = _longest(batch, num_tokens_no_spec)
        drafts = self._drafts.propose(sampled_token_ids, num_tokens_no_spec, token_ids_cpu, drafters, longest)
        if self._metrics is not None:
            self._metrics.update(self._drafts.stats, time.perf_counter() - begin)
        return drafts

    def _by_row(self, batch: Any, n_rows: int) -> list[int]:
        """Whose drafts each row gets, by the adapter that it uses."""
        adapters = {number: request.lora_name for number, request in batch.lora_id_to_lora_request.items()}
        places = {name: place for place, name in enumerate(self._names)}
        rest = places.get("", -1)
        of_number = {number: places.get(name, rest) for number, name in adapters.items()} | {0: self._base}
        return [of_number.get(number, rest) for number in batch.request_lora_mapping[:n_rows].tolist()]


def _longest(batch: Any, lengths: NDArray[np.integer]) -> dict[int, int]:
    """By slot, the most tokens of a draft for rows that have not reached their `min_tokens`.

    vLLM (0.32) keeps such a row from ending in the whole pass, so its draft must not reach the first token that may end it.
    """
    return {
        slot: missing - 1
        for processor in batch.logitsprocs.non_argmax_invariant
        for slot, (least, *_) in getattr(processor, "min_toks", {}).items()
        if (missing := least - int(lengths[slot] - batch.num_prompt_tokens[slot])) > 0
    }


class Metrics:
    """Counters on vLLM's /metrics page.

    Proposer and page live in different processes; prometheus_client adds up what all write where the environment
    variable PROMETHEUS_MULTIPROC_DIR names a folder, as `tasc serve` sees to.
    """

    def __init__(self) -> None:
        from prometheus_client import REGISTRY, Counter

        if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            os.makedirs(folder, exist_ok=True)  # on another machine of the same engine it is not there
        for name in [name for name in REGISTRY._names_to_collectors if name.startswith("tasc:")]:
            if (collector := REGISTRY._names_to_collectors.get(name)) is not None:  # of an earlier engine here
                REGISTRY.unregister(collector)
        self._drafted = Counter("tasc:drafted_tokens", "Drafted tokens handed to the engine, by source.", ["source"])
        self._accepted = Counter("tasc:accepted_tokens", "Drafted tokens that were accepted, by source.", ["source"])
        self._passes = Counter("tasc:passes", "Passes, by whether drafting was on or paused.", ["drafting"])
        self._seconds = Counter("tasc:draft_seconds", "Seconds spent on drafting.")
        self._counted = BatchStats()

    def update(self, stats: BatchStats, seconds: float) -> None:
        """Count what was added since the last call."""
        self._seconds.inc(seconds)
        counted = self._counted
        for counter, names, now, before in (
            (self._passes, ("on", "paused"), stats.passes, counted.passes),
            (self._drafted, SOURCES, stats.drafted, counted.drafted),
            (self._accepted, SOURCES, stats.accepted, counted.accepted),
        ):
            for place, name in enumerate(names):
                if now[place] > before[place]:
                    counter.labels(name).inc(now[place] - before[place])
                    before[place] = now[place]


def _warm_up(drafts: BatchDrafts) -> None:
    """Load or compile the kernels before the first request waits for them."""
    drafts.control.cost.best_total([[1.0]], tokens_per_ms=1.0)
    tokens = np.array([[0, 0, 1, 1, 0, 0, 0, 0]], np.int32)
    seen = Memory(max_rows=1)
    seen.add((), [0, 1] * 4)  # repeats itself, so that every kernel that makes the index has work
    for drafter, memory in zip(drafts.drafters, drafts.memories, strict=True):
        state = drafter.start([0], memory=None if memory is None else seen)
        state.extend([1] * (ROOM + 1))
        adapts = isinstance(drafter, AdaptiveDrafter)
        base = drafter.drafter if adapts else drafter
        if adapts:
            AdaptiveDrafter(base).learn([0], [0])
        throwaway = BatchDrafts([base], Control(drafts.control.cost, ragged=True), max_length=8, adapt=adapts)
        for length in (3, 4):
            throwaway.propose([[1]], np.array([length]), tokens)


def _check_model(model: Any) -> None:
    for name in ("is_hybrid", "is_attention_free", "has_inner_state"):
        if getattr(model, name, False):
            raise ModelError(
                f"drafts need a cache that can be rolled back, {model.model} has a recurrent state; serve it without a drafter"
            )
    if getattr(model, "enable_prompt_embeds", False):  # a slot would still show the text of whoever had it before
        raise ModelError(
            "drafts need prompts of tokens, not of embeddings; leave --enable-prompt-embeds or the drafter out"
        )


def _control(options: ServeOptions, drafters: Sequence[Drafter], vllm_config: Any) -> Control:
    """Lengths of drafts: as long as vLLM makes room for, by a curve that was measured in vLLM or is typical."""
    most = int(vllm_config.speculative_config.num_speculative_tokens)
    device = vllm_config.device_config.device_type
    # a curve of another engine would make drafted tokens look dear: most of a step is vLLM's own work
    tuned = [one.tuned for one in drafters if one.tuned is not None and "engine" in one.tuned.cost.get("about", {})]
    cost = StepCost.load(options.cost) if options.cost else curve_for(device, tuned[0] if tuned else None)
    return Control(cost, max_draft=most, min_gain=options.min_gain, switch_off=options.switch_off, ragged=True)
