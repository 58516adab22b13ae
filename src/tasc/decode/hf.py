"""Drafts in transformers: `model.generate(**inputs, custom_generate=tasc.speculative(drafter))`.

The output is that of plain `generate`: with greedy decoding the same ids, with sampling the same distribution. Logits
processors, stopping criteria, streamers, left padding and `return_dict_in_generate` work as they do there.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasc.decode._signature import cache_name
from tasc.decode.drafting import Drafting
from tasc.errors import OptionError

if TYPE_CHECKING:
    import torch

    from tasc.decode._choice import HFChoice
    from tasc.decode.forward import Forward
    from tasc.decode.speculate import Row
    from tasc.draft.interface import Drafts

# what `generate` prepares for a decoder-only model and the loop has of its own
_OURS = {"attention_mask", "position_ids", "cache", "past_key_values", "use_cache", "logits_to_keep", "cache_position"}


class Speculative(Drafting):
    """What `speculative` returns: a `custom_generate` for transformers; see `Drafting` for options and attributes."""

    def __call__(
        self,
        model: Any,
        input_ids: "torch.Tensor",
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        generation_config: Any = None,
        synced_gpus: bool = False,
        streamer: Any = None,
        **model_kwargs: Any,
    ) -> Any:
        """Called by `generate`.

        Raises:
            OptionError: an option of `generate` that drafts do not support.
            ModelError: the model's cache cannot be rolled back, or the drafter is for other ids.
        """
        import torch

        from tasc.decode._choice import HFChoice
        from tasc.decode.forward import Forward
        from tasc.decode.speculate import speculate

        target, control = self.target(model), self.control(model)
        streamer = _given_to_generate("streamer") if streamer is None else streamer
        _check(generation_config, synced_gpus or _given_to_generate("synced_gpus"), model_kwargs)
        returned = bool(generation_config.return_dict_in_generate)
        choice = HFChoice(
            input_ids,
            logits_processor or [],
            stopping_criteria or [],
            sample=generation_config.do_sample,
            keep_scores=returned and generation_config.output_scores,
            keep_logits=returned and generation_config.output_logits,
        )
        prompts = _prompts(input_ids, model_kwargs.get("attention_mask"))
        room = (choice.max_length or generation_config.max_length) - input_ids.shape[1]
        rows = self.rows(prompts, [room] * len(prompts))
        pad_id = _pad_id(generation_config)
        forward = Forward(target, max(map(len, prompts)) + room, self.max_draft + 1)
        after = None if streamer is None else _Streamed(streamer, rows, pad_id)
        with torch.inference_mode():
            speculate(forward, rows, choice, control, pad_id=pad_id, after_pass=after)
        self.finish(rows)
        if streamer is not None:
            streamer.end()
        longest = max(len(row.ids) for row in rows)
        padded = [row.ids + [pad_id] * (longest - len(row.ids)) for row in rows]
        sequences = torch.cat([input_ids, torch.tensor(padded, device=input_ids.device)], dim=1)
        return _output(sequences, rows, choice, forward) if returned else sequences


def speculative(drafter: "Drafts", **options: Any) -> Speculative:
    """Decoding with drafts, for `model.generate(..., custom_generate=...)` and for `tasc.generate(..., drafter=...)`.

    Args:
        drafter: from `tasc draft build`, for the tokenizer of the model.
        options: see `tasc.decode.drafting.Drafting`: max_draft, cost, min_gain, switch_off, tree, adapt, vocabulary, record.

    Returns:
        An object for one model and task, to be used for all its requests: it carries over how well drafts pay and which
        of the drafter's sources to believe. Its `requests` holds the statistics of the last call.

    Raises:
        OptionError: a value out of range.
        DataError: the cost file cannot be used.

    Examples:
        ```python
        drafting = tasc.speculative(tasc.Drafter.load("task.tasc"))
        output = model.generate(**inputs, custom_generate=drafting)
        drafting.requests[0].passes
        ```
    """
    return Speculative(drafter, **options)


class _Streamed:
    """Hands tokens to a streamer one place at a time, as soon as every row has a token there or has ended."""

    def __init__(self, streamer: Any, rows: "Sequence[Row]", pad_id: int) -> None:
        self.streamer, self.rows, self.pad_id, self.place = streamer, rows, pad_id, 0

    def __call__(self, _: "torch.Tensor") -> None:
        import torch

        running = [len(row.ids) for row in self.rows if not row.done]
        ready = min(running) if running else max(len(row.ids) for row in self.rows)
        for place in range(self.place, ready):
            ids = [row.ids[place] if place < len(row.ids) else self.pad_id for row in self.rows]
            self.streamer.put(torch.tensor(ids))
        self.place = max(ready, self.place)


def _given_to_generate(name: str) -> Any:
    """An argument of the `generate` that called: transformers 5 does not hand these on to a `custom_generate`."""
    caller = sys._getframe(2)
    return caller.f_locals.get(name) if caller.f_code.co_name == "generate" else None


def _check(config: Any, synced: Any, model_kwargs: dict[str, Any]) -> None:
    wrong = {
        "num_beams": config.num_beams is not None and config.num_beams > 1,
        "penalty_alpha": getattr(config, "penalty_alpha", None),
        "dola_layers": getattr(config, "dola_layers", None),
        "output_attentions": config.output_attentions,
        "output_hidden_states": config.output_hidden_states,
        "synced_gpus": synced,
        "use_cache=False": config.use_cache is False,
    }
    unknown = [name for name, value in model_kwargs.items() if name not in _OURS and value is not None]
    named = list(dict.fromkeys([name for name, found in wrong.items() if found] + unknown))
    if named:
        raise OptionError(f"decoding with drafts does not support {', '.join(named)}; leave it out or pass no drafter")
    cache = model_kwargs.get(cache_name(model_kwargs))
    if cache is not None and cache.get_seq_length() > 0:
        raise OptionError(
            f"decoding with drafts begins with an empty cache; pass the whole prompt and no {cache_name(model_kwargs)}"
        )


def _prompts(input_ids: "torch.Tensor", mask: "torch.Tensor | None") -> list[list[int]]:
    lines = input_ids.tolist()
    if mask is None:
        return lines
    prompts = []
    for row, (line, kept) in enumerate(zip(lines, mask.tolist(), strict=True)):
        n = sum(kept)
        if n == 0 or not all(kept[len(kept) - n :]):
            raise OptionError(
                f"row {row} must be padded on the left and not be empty; set tokenizer.padding_side='left'"
            )
        prompts.append(line[len(line) - n :])
    return prompts


def _pad_id(config: Any) -> int:
    """The id that fills rows that have ended; any will do where none can end before the others."""
    tensor = getattr(config, "_pad_token_tensor", None)
    return 0 if tensor is None else int(tensor)


def _output(sequences: "torch.Tensor", rows: "Sequence[Row]", choice: "HFChoice", forward: "Forward") -> Any:
    """What `return_dict_in_generate` asks for. Scores of places after a row's end are zeros.

    The cache is handed out for a single row without padding; several rows have lengths of their own, which no other cache can
    hold, and padding is not in ours.
    """
    from transformers.generation.utils import GenerateDecoderOnlyOutput

    n_fed = sequences.shape[1] - 1  # the last id is not in the cache yet
    whole = len(rows) == 1 and len(rows[0].prompt) + len(rows[0].ids) == sequences.shape[1]
    cache = forward.cache.to_dynamic(n_fed) if whole else None
    named: dict[str, Any] = {cache_name(GenerateDecoderOnlyOutput.__dataclass_fields__): cache}
    return GenerateDecoderOnlyOutput(
        sequences=sequences,  # type: ignore[arg-type]
        scores=_by_place(choice.scores) if choice.keep_scores else None,
        logits=_by_place(choice.logits) if choice.keep_logits else None,
        **named,
    )


def _by_place(of_rows: "list[list[torch.Tensor]]") -> Any:
    import torch

    longest = max(of_rows, key=len)
    return tuple(
        torch.stack([one[place] if place < len(one) else torch.zeros_like(longest[0]) for one in of_rows])
        for place in range(len(longest))
    )
