"""Known rows, read with the tokenizer that a drafter file was built with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasc.cli._tasks import report_skipped

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from tasc.corpus import Row, TokenCorpus
    from tasc.draft import Drafter
    from tasc.vocab.vocabulary import EnrichedVocabulary


class Rows:
    """Known rows, and their ids as a drafter knows them."""

    def __init__(self, data: str, **choice: Any) -> None:
        from tasc.corpus import load_tasks

        self.tasks = load_tasks(data, **choice)
        self.n_skipped = self.tasks.n_skipped
        report_skipped(self.tasks)

    def encode(
        self,
        drafter: "Drafter",
        tokenizer: "PreTrainedTokenizerFast",
        vocabulary: "EnrichedVocabulary | None",
        max_prompt: int,
    ) -> tuple["TokenCorpus", "TokenCorpus"]:
        """Prompts and outputs with their end token, n-grams merged where the drafter speaks them."""
        from tasc.corpus import TokenCorpus

        outputs = TokenCorpus.encode(self.tasks.completions, tokenizer)
        prompts = TokenCorpus.from_rows(
            ids[:max_prompt] for ids in _prompts(tokenizer, self.tasks.rows, drafter.template)
        )
        if vocabulary is not None:
            prompts, outputs = vocabulary.merge_corpus(prompts), vocabulary.merge_corpus(outputs)
        return prompts, TokenCorpus.from_rows([*ids.tolist(), drafter.eos_id] for ids in outputs)


def _prompts(tokenizer: "PreTrainedTokenizerFast", rows: "Sequence[Row]", template: str) -> Any:
    from tasc.corpus import TokenCorpus, make_template

    if template in ("", "none"):  # the bare prompt
        return TokenCorpus.encode([row.prompt for row in rows], tokenizer)
    return make_template(tokenizer, template).encode_prompts(rows)
