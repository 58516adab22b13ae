"""One question to an endpoint that speaks OpenAI's chat completions, with retries. Standard library only."""

import http.client
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasc.errors import ModelError, OptionError

_RETRIED = frozenset({408, 409, 429})  # and every 5xx
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class ChatEndpoint:
    """An endpoint and how patiently to ask it.

    Attributes:
        url: base address, e.g. `http://localhost:8000/v1`.
        api_key: sent as a bearer token unless empty; never part of a message or a file.
        attempts: tries before giving up.
        timeout_s: seconds to wait for an answer.
        backoff_s: first pause; it doubles from try to try.
    """

    url: str
    api_key: str = ""
    attempts: int = 6
    timeout_s: float = 120.0
    backoff_s: float = 1.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise OptionError(f"the endpoint's address must begin with http:// or https://, got {self.url!r}")

    def complete(self, body: Mapping[str, Any]) -> str:
        """The text that the endpoint answers.

        Raises:
            ModelError: the endpoint refuses the request, or all attempts failed.
        """
        failure = ""
        for attempt in range(self.attempts):
            pause = self.backoff_s * 2**attempt * random.uniform(0.5, 1.5)
            try:
                return _text_of(self._post(body))
            except urllib.error.HTTPError as error:
                with error:  # it holds the connection
                    failure = f"HTTP {error.code}: {_excerpt(error)}"
                    pause = _named_pause(error) or pause
                if error.code not in _RETRIED and error.code < 500:
                    raise ModelError(f"{self.url}: refused, {failure}; check the model name and key") from None
            except (OSError, http.client.HTTPException, _BadAnswerError) as error:
                failure = f"{type(error).__name__}: {error}"
            if attempt + 1 < self.attempts:
                time.sleep(min(pause, _LONGEST_PAUSE_S))
        raise ModelError(
            f"{self.url}: no answer after {self.attempts} attempts, the last: {failure}; "
            "run the same command again to go on"
        )

    def _post(self, body: Mapping[str, Any]) -> bytes:
        address = self.url.rstrip("/") + "/chat/completions"
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")
        if self.api_key:  # not for whoever the endpoint may redirect to
            request.add_unredirected_header("Authorization", f"Bearer {self.api_key}")
        with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
            return response.read()


class _BadAnswerError(Exception):
    """An answer that is not a chat completion."""


def _text_of(answer: bytes) -> str:
    try:
        text = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise _BadAnswerError(f"not a chat completion ({answer[:80]!r})") from error
    return text if isinstance(text, str) else ""


def _excerpt(error: urllib.error.HTTPError) -> str:
    try:
        return " ".join(error.read(300).decode("utf-8", "replace").split())
    except (OSError, http.client.HTTPException):
        return str(error.reason)


def _named_pause(error: urllib.error.HTTPError) -> float:
    """Seconds the server asks to wait; 0 where it names none (or a date, which few do)."""
    try:
        return max(0.0, float(error.headers.get("Retry-After", "")))
    except ValueError:
        return 0.0
