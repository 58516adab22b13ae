"""Finds llama.cpp's own converter and runs it in a process of its own. Why not our own writer: docs/decisions/0009."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tasc.errors import MissingExtraError, ModelError, OptionError, TokenizerError
from tasc.export.gguf.splitting import named_split

SCRIPT = "convert_hf_to_gguf.py"
ENVIRONMENT = "LLAMA_CPP"
OUTTYPES = ("auto", "f32", "f16", "bf16", "q8_0")
_DRIVER = Path(__file__).with_name("driver.py")
_WHERE = (
    "clone https://github.com/ggml-org/llama.cpp or unpack the source package of llama-cpp-python, and pass its folder "
    f"(--llama-cpp DIR, or the environment variable {ENVIRONMENT})"
)


def find_converter(llama_cpp: str | os.PathLike[str] | None = None) -> Path:
    """The path of `convert_hf_to_gguf.py`.

    Args:
        llama_cpp: a folder of llama.cpp, the unpacked source package of llama-cpp-python, or the script itself; default:
            what the environment variable LLAMA_CPP names.

    Raises:
        OptionError: nothing is named, or no converter is there.
    """
    given = os.fspath(llama_cpp) if llama_cpp is not None else os.environ.get(ENVIRONMENT, "")
    if not given:
        raise OptionError(f"llama.cpp's converter is needed, which no Python package installs: {_WHERE}")
    place = Path(given)
    for path in (place, place / SCRIPT, place / "vendor" / "llama.cpp" / SCRIPT):
        if path.name == SCRIPT and path.is_file():
            return path.resolve()
    raise OptionError(f"{given}: no {SCRIPT} there; {_WHERE}")


def convert(converter: Path, folder: Path, out: Path, *, outtype: str, pre: str | None, state: dict[str, Any]) -> None:
    """Run the converter on a checkpoint folder.

    Args:
        converter: the script.
        folder: config, weights and tokenizer.
        out: the GGUF to write.
        outtype: one of `OUTTYPES`.
        pre: llama.cpp's name of the pre-tokenizer, for a tokenizer that the converter does not know.
        state: the parsed `tokenizer.json`, for the advice when the pre-tokenizer is unknown.

    Raises:
        MissingExtraError: a library that the converter imports is not installed.
        TokenizerError: llama.cpp does not know how the tokenizer splits text.
        ModelError: any other failure, with the converter's last message.
    """
    command = [sys.executable, "-P", os.fspath(_DRIVER), os.fspath(converter), pre or ""]
    command += [os.fspath(folder), "--outfile", os.fspath(out), "--outtype", outtype]
    # all it needs lies in the folder
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUTF8": "1"}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,  # transformers asks there whether to run a model's code
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode == 0 and out.is_file():
        return
    if done.returncode < 0:
        raise ModelError(f"{converter.name} was killed by signal {-done.returncode}; is there enough memory?")
    message = last_message(done.stderr) or f"exit status {done.returncode}"
    if message.startswith(("ModuleNotFoundError:", "ImportError:")):
        raise MissingExtraError(f"{converter.name}: {message}; pip install 'tasc-lm[gguf]', or install what is missing")
    if "pre-tokenizer was not recognized" in message:
        raise TokenizerError(f"llama.cpp does not know this tokenizer by its hash; {_advice(state)}")
    raise ModelError(f"{converter.name} failed: {message}")


def last_message(stderr: str) -> str:
    """The last line of a log that is no progress and no mere information, without the logger's name."""
    for line in reversed(stderr.replace("\r", "\n").splitlines()):
        text = line.strip()
        if text and not text.startswith(("INFO:", "DEBUG:", "Writing:")):
            return text.removeprefix("ERROR:hf-to-gguf:")
    return ""


def _advice(state: dict[str, Any]) -> str:
    name = named_split(state)
    if name is None:
        return (
            "nor does TASC know how it splits text; if one of llama.cpp's pre-tokenizers splits it the same way, pass its "
            "name (--pre NAME) and let llama.cpp prove it (--check N --data FILE)"
        )
    return f"it splits text as llama.cpp's {name} does: pass --pre {name}"
