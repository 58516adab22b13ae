"""From a row to ids: the prompt as the model will see it, and the completion as the model should write it.

A chat template is applied as text and tokenised without adding special tokens, because it already spells them: adding
them again would double the beginning-of-sequence token. Both sides are tokenised apart, so that a completion has the
same ids whatever its prompt is.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasc.corpus.data import Row
from tasc.corpus.tokenizer import encode_batch
from tasc.errors import DataError, OptionError, TokenizerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Template:
    """How one tokenizer turns rows into ids. Made by `make_template`.

    Attributes:
        tokenizer: the tokenizer that gives the ids.
        name: `"chat"`, `"plain"` or the path of a Jinja file.
        eos_id: the token that ends a target; `encode_completions` leaves it to the caller.
        chat_template: Jinja source; None for the plain template.
        prefix: ids that the tokenizer puts in front of a text by itself (BOS), for the plain template.
    """

    tokenizer: "PreTrainedTokenizerFast"
    name: str
    eos_id: int
    chat_template: str | None = None
    prefix: tuple[int, ...] = ()

    def render_prompt(self, row: Row) -> str:
        """The prompt of a row as text: the chat template ends where the assistant's turn begins.

        Raises:
            DataError: the chat template refuses the row.
        """
        if self.chat_template is None:
            turns = [turn["content"] for turn in row.messages] if row.messages else [row.prompt]
            return "\n".join(turns) + "\n"
        from jinja2 import TemplateError

        messages = [dict(turn) for turn in row.messages or ({"role": "user", "content": row.prompt},)]
        try:
            return self.tokenizer.apply_chat_template(
                messages, chat_template=self.chat_template, tokenize=False, add_generation_prompt=True
            )  # type: ignore[return-value]
        except (TemplateError, ValueError, TypeError) as error:
            roles = ", ".join(turn["role"] for turn in messages)
            raise DataError(
                f"template {self.name} refuses a row with the turns {roles} ({error}); "
                "change the row or pass --template plain"
            ) from error

    def encode_prompts(self, rows: Sequence[Row]) -> list[list[int]]:
        """Prompt ids of each row, special tokens once."""
        encoded = encode_batch(self.tokenizer, [self.render_prompt(row) for row in rows])
        if not self.prefix:
            return encoded
        front = list(self.prefix)
        # a prompt may spell the BOS token itself
        return [ids if ids[: len(front)] == front else front + ids for ids in encoded]

    def encode_completions(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each completion: no special tokens added, no EOS."""
        return encode_batch(self.tokenizer, texts)


def make_template(tokenizer: "PreTrainedTokenizerFast", name: str | os.PathLike[str] = "auto") -> Template:
    """The template to use with a tokenizer.

    Args:
        tokenizer: of the model, base or enriched.
        name: `"auto"` (chat if the tokenizer has a chat template, else plain), `"chat"`, `"plain"`, or the path
            of a `.jinja` file.

    Raises:
        TokenizerError: the tokenizer has no EOS token.
        OptionError: no such template.
    """
    eos_id = tokenizer.eos_token_id
    if not isinstance(eos_id, int):
        raise TokenizerError("the tokenizer has no EOS token, so an output could never end; set tokenizer.eos_token")
    chosen = os.fspath(name)
    if chosen == "auto":
        chosen = "chat" if tokenizer.chat_template else "plain"
    if chosen == "plain":
        return Template(tokenizer, "plain", eos_id, prefix=_added_in_front(tokenizer))
    return Template(tokenizer, chosen, eos_id, chat_template=_chat_template(tokenizer, chosen))


def _chat_template(tokenizer: "PreTrainedTokenizerFast", name: str) -> str:
    if name == "chat":
        if not tokenizer.chat_template:
            raise OptionError("the tokenizer has no chat template; pass --template plain or the path of a .jinja file")
        return tokenizer.get_chat_template()
    path = Path(name)
    if path.suffix not in (".jinja", ".jinja2", ".j2"):
        raise OptionError(f"template {name!r}: expected auto, chat, plain or the path of a .jinja file")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"template {name}: cannot be read ({error}); pass the path of a .jinja file") from error


def _added_in_front(tokenizer: "PreTrainedTokenizerFast") -> tuple[int, ...]:
    """What the tokenizer puts in front of a text by itself; what it puts behind (EOS) is not wanted in a prompt."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a", add_special_tokens=True)["input_ids"]
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return tuple(full[:start])
    return ()
