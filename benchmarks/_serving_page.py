"""Last part of serving.py: the page."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

TITLES = {"massive_en": "MASSIVE", "eurlex57k_short": "EUR-LEX", "medquad": "MedQuAD"}


def write_page(results: dict[str, Any], folder: Path) -> None:
    """docs/results/serving.md of the JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serving.md").write_text("\n".join(page(results)) + "\n")


def page(results: dict[str, Any]) -> list[str]:
    lines = [
        "# Serving on vLLM",
        "",
        "`python benchmarks/serving.py` ([how](../serve.md)): vLLM's OpenAI server on its CPU build, one server per system, the same",
        "requests to each in turn, greedy. Requests per second are the median of the rounds, brackets give the lowest and the",
        "highest ratio to plain vLLM in the same round. On a CPU vLLM never schedules asynchronously, with drafts or without; on a GPU",
        "plain vLLM does and would gain by it. All run in eager mode, engine and worker in one process. SuffixDecoding starts empty, as it does in vLLM, and learns from the requests it",
        "serves, the warm-up included; TASC's drafter holds the training outputs; while it serves its weights follow the model, and only in the rows that say so",
        "it drafts from outputs that it served. No prompt comes twice, and every round begins with another system. The model with n-grams was fine-tuned from the base model, which was not",
        "tuned further: compare speeds here and quality in [TASC-ft](tasc_ft.md). Time per token has the reading of the prompt in it;",
        "tokens per drafted pass are vLLM's counts, in which tokens accepted behind an end count too; the time spent drafting is",
        "told by TASC's proposer alone.",
    ]
    for corpus, found in results.items():
        lines += ["", f"## {TITLES[corpus]}", "", *about(found), *found["notes"], "", *table(found), "", *misses(found)]
    return lines


def about(found: dict[str, Any]) -> list[str]:
    machine, models = found["machine"], found["models"]
    share = models["share_of_the_presets_steps"]
    return [
        f"Commit {machine['commit']}, {machine['date']}. vLLM {machine['vllm']}, {machine['cores']} cores, no GPU; load before and after "
        f"{machine['load_before_and_after'][0]:.1f} and {machine['load_before_and_after'][1]:.1f}. Models: the targets of the TASC",
        f"benchmarks, trained for {share:.0%} of their presets' steps; {models['ngrams']} n-grams. {found['rounds']} rounds of "
        f"{', '.join(map(str, found['requests'].values()))} requests at",
        f"{', '.join(found['requests'])} at a time, at most {found['max_tokens']} tokens each, {found['warm_up']} to warm up.",
    ]


def table(found: dict[str, Any]) -> list[str]:
    lines = [
        "| system | at a time | requests/s | against plain | output tokens/s | bytes/s | ms per token | ms per request | accepted | tokens per drafted pass | time spent drafting | outputs that differ |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    plain = found["systems"][0]["at"]
    for concurrency in found["requests"]:
        for system in found["systems"]:
            rounds = system["at"][concurrency]
            ratios = [
                one["requests_per_s"] / base["requests_per_s"]
                for one, base in zip(rounds, plain[concurrency], strict=True)
            ]
            accepted, longer = middle(rounds, "acceptance"), middle(rounds, "tokens_per_drafted_pass")
            drafting = middle(rounds, "share_of_drafting")
            lines.append(
                f"| {system['system']} | {concurrency} | {middle(rounds, 'requests_per_s'):.1f} | {median(ratios):.2f}x "
                f"({min(ratios):.2f}-{max(ratios):.2f}) | {middle(rounds, 'tokens_per_s'):.0f} | {middle(rounds, 'bytes_per_s'):.0f} "
                f"| {middle(rounds, 'ms_per_token'):.2f} | {middle(rounds, 'ms_per_request'):.1f} "
                f"| {'' if accepted is None else f'{accepted:.0%}'} | {'' if longer is None else f'{longer:.2f}'} "
                f"| {'' if drafting is None else f'{drafting:.0%}'} | {max(one['different'] for one in rounds)} |"
            )
    return lines


# columns that say how fast a system is, and whether more is better
SPEEDS = {"requests_per_s": 1, "tokens_per_s": 1, "bytes_per_s": 1, "ms_per_token": -1, "ms_per_request": -1}


def misses(found: dict[str, Any]) -> list[str]:
    """In words: where no system of TASC's is first, and where one of them is slower than plain vLLM."""
    lost, slower = [], []
    for concurrency in found["requests"]:
        for name, sign in SPEEDS.items():
            values = {system["system"]: middle(system["at"][concurrency], name) for system in found["systems"]}
            first = max(values, key=lambda system: sign * values[system])
            if not is_ours(first):
                best = max(filter(is_ours, values), key=lambda system: sign * values[system])
                lost.append(
                    f"{name} at {concurrency}: {first} {values[first]:.4g}, the best of TASC's ({best}) {values[best]:.4g}"
                )
            if "token" in name:  # with n-grams there are fewer and longer ones
                continue
            plain = values["plain vLLM"]
            slower += [
                f"{name} at {concurrency}: {system} {value:.4g}, plain {plain:.4g}"
                for system, value in values.items()
                if is_ours(system) and sign * value < sign * plain
            ]
    return [
        "Medians in which no system of TASC's is first: " + ("; ".join(lost) or "none") + ".",
        "",
        "Medians of requests and bytes in which one of TASC's is slower than plain vLLM: "
        + ("; ".join(slower) or "none")
        + ".",
    ]


def is_ours(system: str) -> bool:
    return system.startswith(("TASC", "both"))


def middle(rounds: Sequence[dict[str, Any]], name: str) -> Any:
    values = [one[name] for one in rounds if one[name] is not None]
    return median(values) if values else None
