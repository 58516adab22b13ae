"""`python -m tasc`, which `accelerate launch -m tasc train ...` needs."""

from tasc.cli.main import run

run()
