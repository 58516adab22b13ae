#!/usr/bin/env bash
# TASC-ft and TASC-spec with models of Qwen2.5-0.5B's size on one GPU of 80 GB: about ten minutes.
#
#     TASC_SHARED=../shared bash benchmarks/gpu/run.sh [WORK]
#
# The models of both corpora are trained side by side, quality and speed are measured one after the other. WORK (default
# /dev/shm/tasc) takes some 40 GB for a while. Writes benchmarks/results/gpu/; `python benchmarks/gpu/page.py` makes the page.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work="${1:-/dev/shm/tasc}"
mkdir -p "$work" benchmarks/results/gpu
export PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
ft=(python3 benchmarks/tasc_ft.py --scale qwen2.5-0.5b --work "$work/tasc_ft")
spec=(python3 benchmarks/tasc_spec.py --scale qwen2.5-0.5b --work "$work")

# one process a job; the first one of each corpus makes the target that the others start from
side_by_side() {
    local jobs=() failed=0 job
    for job in "$@"; do
        read -r corpus budgets <<<"$job"
        "${ft[@]}" --stage train --corpora "$corpus" --seeds 0 --budgets $budgets >"$work/$corpus-${budgets:-target}.log" 2>&1 &
        jobs+=($!)
    done
    for job in "${jobs[@]}"; do wait "$job" || failed=1; done
    return $failed
}

echo "$(date +%T) targets"
side_by_side massive_en eurlex57k_short
echo "$(date +%T) fine-tuning"
side_by_side "massive_en 0" "massive_en 500" "eurlex57k_short 0" "eurlex57k_short 500"
for corpus in massive_en eurlex57k_short; do
    echo "$(date +%T) measuring $corpus"
    "${spec[@]}" --corpora "$corpus" --rounds "${ROUNDS:-3}" --without "N-Grammys, mixed" "SuffixDecoding, vLLM's defaults" >"$work/$corpus-spec.log" 2>&1
    "${ft[@]}" --stage measure --corpora "$corpus" >"$work/$corpus-ft.log" 2>&1
done
echo "$(date +%T) done"
