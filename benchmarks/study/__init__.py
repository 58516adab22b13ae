"""The study: the tables and figures of arXiv 2602.24174 on real data, and what it leaves out.

    cd benchmarks && python -m study [train] [shortening] [prediction] [quality] [page] [--workers 2]

`train` makes every model that the other parts measure (small Qwen2 models; it resumes where it stopped), `shortening` needs
none, `prediction` and `quality` measure the models that are there, `page` draws docs/reproduction.md and its figures from the
JSON of all parts and of the benchmarks that stand beside the study. Without a part, all of them in this order.

    corpora.py      the tasks, sizes of models, and every run that is trained
    shortening.py   outputs against the budget, n-grams of 2 to 4 tokens; entropies before and after (no training)
    prediction.py   runtime of every run, and what was predicted for it
    quality.py      quality of the longer runs: budgets, epochs, PCS, merge dropout
    figures.py, page.py, page_prediction.py, page_drafts.py, markdown.py: the page and its figures
"""
