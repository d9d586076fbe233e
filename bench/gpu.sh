#!/usr/bin/env bash
# All that a GPU can say about the GPU backend, in one call on a machine that has one:
#
#     bench/gpu.sh PROGRAMS RESULTS [MODELS]
#
# PROGRAMS holds `tidemill` (a release build), `gpu-ops` and `gpu-models` (the test programs of
# tidemill-gpu and of tidemill-engine's tests/gpu.rs, see bench/gpu-programs.sh). Results and logs go to RESULTS,
# synthetic full-size models to MODELS. Each step is bounded in time and none stops the others.
set -uo pipefail
programs=$(realpath "$1") results=$2 models=${3:-$2/models}
mkdir -p "$results" "$models"
models=$(realpath "$models")
results=$(realpath "$results")
export TIDEMILL_TEST_GPU=1 XDG_CACHE_HOME="$models/cache"

step() { # NAME SECONDS COMMAND...
    local name=$1 seconds=$2 started=$SECONDS
    shift 2
    timeout "$seconds" "$@" >"$results/$name.txt" 2>&1
    echo "$name: exit code $?, $((SECONDS - started)) s" | tee -a "$results/summary.txt"
}

ask() { nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits | head -1; }

# The CPU computes what a GPU of so much memory has no room for; what was planned for that, beside it.
with_cpu() { # MODEL
    local gib left
    for gib in 8 12 16 24; do
        left=$(($(ask memory.free) - gib * 1024 + 1024))
        step "planned-${gib}g" 60 "$programs/tidemill" plan -m "$1" --gpu "$(ask name)" --vram "${gib}G" -o json
        step "placed-${gib}g" 300 "$programs/tidemill" bench -m "$1" --backend gpu --vram-target "$left" \
            -p 512 -n 64 -r 3 -o json
    done
    step experts-in-ram 300 "$programs/tidemill" bench -m "$1" --backend gpu --cpu-moe -p 512 -n 64 -r 3 -o json
}

step machine 20 nvidia-smi
# Correctness first: every operation against the reference, then whole models.
step operations 240 "$programs/gpu-ops" --test-threads=1
step models 120 "$programs/gpu-models" --nocapture --test-threads=1
if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck synccheck; do
        TIDEMILL_TEST_APART=1 PROPTEST_CASES=1 step "sanitizer-$tool" 240 compute-sanitizer --tool "$tool" --error-exitcode 9 \
            "$programs/gpu-ops" --test-threads=1
    done
fi
# Speed: decoding at depths and in batches, prefill at lengths.
for quant in Q4_K_M Q8_0 MXFP4_MOE; do
    model=$models/$quant.gguf
    [ -f "$model" ] || step "synth-$quant" 300 "$programs/tidemill" synth --arch qwen3.5-35b-a3b --quant "$quant" -o "$model"
    step "decode-$quant" 240 "$programs/tidemill" bench -m "$model" --backend gpu -p 0 -n 64 -d 0,16384 -r 3 -o json
    step "prefill-$quant" 240 "$programs/tidemill" bench -m "$model" --backend gpu -p 512,4096 -n 0 -r 2 -o json
    step "deep-$quant" 300 "$programs/tidemill" bench -m "$model" --backend gpu -p 0 -n 32 -d 131072 -r 1 -o json
    step "long-$quant" 240 "$programs/tidemill" bench -m "$model" --backend gpu -p 32768 -n 0 -r 1 -o json
    step "batch-$quant" 240 "$programs/tidemill" bench -m "$model" --backend gpu -p 64 -n 32 --npl 1,4,16 -r 2 -o json
    if command -v nsys >/dev/null; then
        step "kernels-$quant" 240 nsys profile --stats=true -o "$models/$quant" --force-overwrite true \
            "$programs/tidemill" bench -m "$model" --backend gpu -p 0 -n 16 -r 1
    fi
    [ "$quant" = Q4_K_M ] && with_cpu "$model"
    rm -f "$model"
done
cat "$results/summary.txt"
