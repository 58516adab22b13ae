#!/usr/bin/env bash
# The tests in which a GPU takes part: decoding with models on the device, training that picks the device by itself. Left out:
# weights equal bit for bit (sums on a GPU have no fixed order), and two processes, which NCCL refuses to let share one GPU.
#
#     bash benchmarks/gpu/tests.sh [LOG]      about a minute on 16 cores
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
log="${1:-/dev/stdout}"
export TASC_TEST_DEVICE=cuda PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}"
python3 -m pytest --numprocesses "${WORKERS:-8}" --override-ini filterwarnings=default \
    tests/decode/test_cuda.py tests/decode/test_generate.py tests/decode/test_drafting.py tests/decode/test_speculative.py \
    tests/decode/test_speculative_options.py tests/decode/test_speculative_sampling.py tests/decode/test_timing.py \
    tests/train/test_finetune.py tests/train/test_resume.py \
    --deselect tests/train/test_resume.py::test_a_run_killed_while_saving_its_result_only_saves_again \
    --deselect tests/train/test_resume.py::test_two_processes_give_the_result_of_one >"$log" 2>&1
