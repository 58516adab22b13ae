"""What was measured, and when."""

import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def commit_and_date() -> dict[str, str]:
    """The code that is measured, with a plus if `src` was changed since, and today's date."""
    head, changes = (
        subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
        for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--", "src"))
    )
    return {"commit": head + "+" * bool(changes), "date": time.strftime("%Y-%m-%d")}
