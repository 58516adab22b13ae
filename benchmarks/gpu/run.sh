#!/usr/bin/env bash
# TASC-ft and TASC-spec with models of Qwen2.5-0.5B's size on one GPU of 80 GB: on an H100 about nine minutes a corpus.
#
#     TASC_SHARED=../shared [CORPORA="massive_en"] bash benchmarks/gpu/run.sh [WORK]
#
# The models of both corpora are trained side by side and scored side by side; speed is measured alone. WORK (default
# /dev/shm/tasc) takes some 40 GB for a while. Writes benchmarks/results/gpu/; `python benchmarks/gpu/page.py` makes the page.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work="${1:-/dev/shm/tasc}"
mkdir -p "$work" benchmarks/results/gpu
export PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
ft=(python3 benchmarks/tasc_ft.py --scale qwen2.5-0.5b --work "$work/tasc_ft")
spec=(python3 benchmarks/tasc_spec.py --scale qwen2.5-0.5b --work "$work")

read -ra corpora <<<"${CORPORA:-massive_en eurlex57k_short}"

# each system takes long with a model of this size: one rival of each kind stays
LEFT_OUT=("prompt lookup, our loop" "N-Grammys, bigrams" "N-Grammys, mixed" "SuffixDecoding, vLLM's defaults" "paper's method, corpus only")

# trains; a job is "CORPUS BUDGET" on the target of the corpus, which must be there, or "CORPUS" for the target itself
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

measure() { echo "$(date +%T) $*"; "$@" >>"$work/measure-$corpus.log" 2>&1; }

echo "$(date +%T) targets"
side_by_side "${corpora[@]}"
echo "$(date +%T) fine-tuning"
for corpus in "${corpora[@]}"; do side_by_side "$corpus 0" "$corpus 500"; done
echo "$(date +%T) quality"
jobs=()
for corpus in "${corpora[@]}"; do
    measure "${ft[@]}" --stage measure --corpora "$corpus" &
    jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job"; done
for corpus in "${corpora[@]}"; do
    measure "${spec[@]}" --corpora "$corpus" --rounds "${ROUNDS:-2}" --without "${LEFT_OUT[@]}"
done
echo "$(date +%T) done"
