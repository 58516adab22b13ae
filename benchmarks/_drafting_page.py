"""docs/results/drafting.md from the results of drafting.py."""

from typing import Any

MATCHED_TREES, RIVAL_TREES = "tasc best, trees, no more drafted", "SuffixDecoding, trees"
FRESH = ("import", "load", "first_draft", "import_cpu", "load_and_draft_cpu")
HEAD = """# Drafting

Made by `python benchmarks/drafting.py` (`benchmarks/results/drafting.json`): replay on test outputs, Qwen2.5 ids, bare
prompts, drafts of at most 10 tokens. Drafters are built from the training rows; options are chosen on validation rows.
SuffixDecoding is arctic-inference 0.1.1, warmed with the same training outputs.
"""


def page(results: dict[str, Any]) -> str:
    """The page; parts that were not run are left out."""
    sections = [HEAD]
    for name, make in (("tokens", _tokens), ("speed", _speed), ("size", _size), ("shared", _shared)):
        if results.get(name):
            sections.append(make(results[name]) + _measured(results[name]))
    return "\n".join(sections)


def _measured(corpora: dict[str, Any]) -> str:
    """When a part was measured, and what."""
    found = sorted({(one["date"], one["commit"]) for one in corpora.values()})
    return "\nMeasured at " + ", ".join(f"{commit} ({date})" for date, commit in found) + ".\n"


def _tokens(corpora: dict[str, Any]) -> str:
    lines = [
        "## Tokens per pass",
        "",
        "Tokens per target pass / drafted tokens per pass / over SuffixDecoding's chains with its best options. `no more drafted`: drafts",
        "hold what is likelier to be accepted than a threshold, chosen so that chains draft less than those chains on validation rows, and",
        "trees less than SuffixDecoding's trees; they then have up to 24 tokens. vLLM verifies chains of these drafters, our loop trees as well; SuffixDecoding's trees are",
        "those of Snowflake's package.",
        "",
        "| | " + " | ".join(corpora) + " |",
        "|---" * (1 + len(corpora)) + "|",
    ]
    first = next(iter(corpora.values()))
    for name in first["systems"]:
        cells = [
            "{tokens_per_pass:.2f} / {drafted_per_pass:.2f} / {ratio:.2f}".format_map(found["systems"][name])
            for found in corpora.values()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| | " + " | ".join(corpora) + " |", "|---" * (1 + len(corpora)) + "|"]
    over_trees = [
        found["systems"][MATCHED_TREES]["tokens_per_pass"] / found["systems"][RIVAL_TREES]["tokens_per_pass"]
        for found in corpora.values()
    ]
    lines.append(
        f"| {MATCHED_TREES}, over {RIVAL_TREES} | " + " | ".join(f"{ratio:.2f}" for ratio in over_trees) + " |"
    )
    lines.append("| test rows | " + " | ".join(str(found["rows"]) for found in corpora.values()) + " |")
    thresholds = [f"{found['threshold']:.2g}, {found['threshold_of_trees']:.2g}" for found in corpora.values()]
    lines.append("| threshold of chains, of trees | " + " | ".join(thresholds) + " |")
    options = "{max_tree_depth}, {max_spec_factor:g}, {min_token_prob:g}"
    for name, key in (("", "suffix_options"), (", trees", "suffix_tree_options")):
        best = [options.format_map(found[key]) for found in corpora.values()]
        lines.append(f"| SuffixDecoding's depth, factor, least probability{name} | " + " | ".join(best) + " |")
    errors = [f"{found['calibration_error']:.3f}" for found in corpora.values()]
    lines.append("| calibration error on held-out training rows | " + " | ".join(errors) + " |")
    return "\n".join([*lines, ""])


def _speed(corpora: dict[str, Any]) -> str:
    loads = [found["load_average"] for found in corpora.values()]
    lines = [
        "## Time to draft",
        "",
        f"One process, the systems in turns, medians of {_rounds(corpora)} rounds with the least and most round;",
        f"load average of the machine (2 cores) {min(loads):.1f} to {max(loads):.1f}. Drafts of 10: those that came out 10 tokens",
        "long, which is rare for SuffixDecoding and prompt lookup. Batches (of chains): of the processor, and of the clock, where those of the",
        "default drafter run in two threads.",
        "",
        "| corpus | system | draft of 10, us | share of drafts | any draft, us | start, us | batch of 64, ms | by the clock |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for corpus, found in corpora.items():
        for name, row in found["systems"].items():
            numbers = [_range(row[key], 1) for key in ("full_us", "propose_us", "start_us")]
            numbers += [_range(row.get(key), 2) for key in ("batch_ms", "batch_clock_ms")]
            numbers.insert(1, f"{row['full_share'][0]:.0%}")
            lines.append(f"| {corpus} | {name} | " + " | ".join(numbers) + " |")
    return "\n".join([*lines, ""])


def _size(corpora: dict[str, Any]) -> str:
    lines = [
        "## Time to build, size, start-up",
        "",
        f"Processor seconds of one thread, medians of {_rounds(corpora)} rounds with the least and most round. `learnt`: all of it,",
        "the weights learnt too.",
        "",
        "| corpus | tokens | index | with prompts | learnt | SuffixDecoding's cache, depth 24 | depth 64 | bytes per token |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for corpus, found in corpora.items():
        seconds = found["seconds"]
        names = ("index", "index_and_prompts", "all", "arctic_24", "arctic_64")
        cells = [_range(seconds[name], 2) for name in names]
        lines.append(f"| {corpus} | {found['tokens']:,} | {' | '.join(cells)} | {found['bytes_per_token']:.1f} |")
    lines += [
        "",
        "A fresh process, kernels from the cache on disk: seconds of the clock, on a machine that had other work, and of the",
        "processor.",
        "",
        "| corpus | import | load the file | first draft | import, processor | load and draft, processor |",
        "|---|---|---|---|---|---|",
    ]
    for corpus, found in corpora.items():
        cells = [_range(found["fresh_process"][name], 3) for name in FRESH]
        lines.append(f"| {corpus} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _shared(corpora: dict[str, Any]) -> str:
    (found,) = list(corpora.values())[-1:]
    lines = [
        "## Memory shared between processes",
        "",
        f"Two processes draft from one file of {found['tokens']:,} tokens ({found['file_mib']:,.0f} MiB), built in",
        f"{found['build_seconds']:.0f} processor seconds. Of the file, in MiB:",
        "",
        "| process | resident | its share (half of what both use) | private | seconds to load |",
        "|---|---|---|---|---|",
    ]
    for number, one in enumerate(found["processes_mib"], 1):
        private = one["Private_Clean"] + one["Private_Dirty"]
        lines.append(f"| {number} | {one['Rss']:,.0f} | {one['Pss']:,.0f} | {private:,.0f} | {one['load_s']:.2f} |")
    return "\n".join([*lines, ""])


def _rounds(corpora: dict[str, Any]) -> str:
    most = max(found["rounds"] for found in corpora.values())
    fewer = [f"{found['rounds']} of {name}" for name, found in corpora.items() if found["rounds"] < most]
    return str(most) + (f" ({', '.join(fewer)})" if fewer else "")


def _range(values: list[float] | None, digits: int) -> str:
    return "-" if values is None else "{} ({}-{})".format(*(f"{value:.{digits}f}" for value in values))
