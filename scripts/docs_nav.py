"""MkDocs hook: lists the pages that come and go (commands, results, decisions) in the navigation."""

from pathlib import Path
from typing import Any

SECTIONS = {"Commands": "cli", "Results": "results", "Decisions": "decisions"}


def on_config(config: Any) -> Any:
    """Appends a section for each folder above that has pages, its index first."""
    docs = Path(config["docs_dir"])
    for title, folder in SECTIONS.items():
        pages = sorted((docs / folder).glob("*.md"), key=lambda page: (page.stem != "index", page.stem))
        if pages:
            config["nav"].append({title: [str(page.relative_to(docs)) for page in pages]})
    return config
