"""Command line of the study; see the package."""

import argparse
import os
import sys

import torch

from study import corpora, page, prediction, quality, shortening


def main() -> None:
    parser = argparse.ArgumentParser("python -m study", description=__doc__)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes at once, one thread each")
    parts = {
        "train": lambda: corpora.train_all([*corpora.grid(), *corpora.longer()], workers=args.workers),
        "shortening": shortening.measure,
        "prediction": lambda: prediction.measure(args.workers),
        "quality": quality.measure,
        "page": page.write,
    }
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(parts)}; default: all, in this order")
    args = parser.parse_args()
    torch.set_num_threads(1)  # as the processes that train have
    if unknown := set(args.parts) - set(parts):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; the parts are {', '.join(parts)}")
    for name, run in parts.items():
        if name in args.parts or not args.parts:
            run()


if __name__ == "__main__":
    sys.exit(main())
