"""The tutorial (docs/tutorial.md) in Python: from a task's rows to a model with its own tokens and drafts.

Run it in a folder that `tasc demo --data-only -o FOLDER` made.
"""

from transformers import AutoModelForCausalLM, AutoTokenizer

import tasc

STEPS = 800
REQUEST = "wake me at seven on friday"

train, dev = tasc.load_tasks("train.jsonl"), tasc.load_tasks("validation.jsonl")
base = tasc.load_tokenizer("base")
print(tasc.analyze(train, base, eval_tasks=dev).recommendation.text)

report = tasc.enrich(train, base, budget="auto", eval_tasks=dev, out="vocab")
print(report.reason)
tasc.finetune(
    "base", train, eval_tasks=dev, vocabulary=report.vocabulary, out="run",
    method="full", lr=2e-3, batch_size=32, effective_batch=32, max_steps=STEPS,
)  # fmt: skip
drafter = tasc.build_drafter(train, base, vocabulary=report.vocabulary)
drafter.save("run.tasc")

model, tokenizer = AutoModelForCausalLM.from_pretrained("run"), AutoTokenizer.from_pretrained("run")
drafting = tasc.speculative(tasc.Drafter.load("run.tasc"), vocabulary=report.vocabulary)
inputs = tokenizer(REQUEST + "\n", return_tensors="pt")  # as in training: the prompt and a line break
output = model.generate(**inputs, custom_generate=drafting, max_new_tokens=60)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
print(f"{drafting.requests[0].passes} forward passes")
