#!/usr/bin/env bash
# All that a GPU can say about the GPU backend, on a machine that has one and little else:
#
#     bench/gpu.sh PROGRAMS RESULTS MODELS [PART...]
#
# PROGRAMS holds `tidemill` (a release build), `gpu-ops` and `gpu-models` (the test programs of tidemill-gpu and of
# tidemill-engine's tests/gpu.rs) and `repository` (where those look for test models): see bench/gpu-programs.sh. Synthetic
# full-size models and compiled kernels are kept in MODELS for the next call.
#
# Parts, in the order of what is worth knowing first; all if none is named:
#   check    every operation against the reference, then whole models         some 3 minutes
#   decode   tokens per second, graphs and overlapping kernels on and off      some 3 minutes, a model's making included
#   prefill  prompts, and several requests at once                            some 3 minutes
#   kernels  time per kernel, where nsys is there
#   deep     depths of 16K to 128K
#   cpu      what the CPU computes for a GPU of 8 to 24 GiB
#   types    decoding and prompts in Q8_0 and MXFP4 too, and of 8 layers in BF16
#   sanitize compute-sanitizer, where it is there
#
# TIDEMILL_GPU_SECONDS is how long all of it may take, 540 if it is not set: a step gets what is left of it, and none begins
# without 20 s. RESULTS gets two files, both whole after every step, so a call that is cut off loses one step:
# summary.txt, a line a step, and all.txt, what each step said.
set -uo pipefail
mkdir -p "$2" "$3"
programs=$(realpath "$1") results=$(realpath "$2") models=$(realpath "$3")
shift 3
parts=${*:-check decode prefill kernels deep cpu types sanitize}
budget=${TIDEMILL_GPU_SECONDS:-540}
export TIDEMILL_TEST_GPU=1 XDG_CACHE_HOME="$models/cache"
tidemill=$programs/tidemill

step() { # NAME SECONDS COMMAND...
    local name=$1 seconds=$2 started=$SECONDS code left=$((budget - SECONDS)) said="$models/step.txt"
    shift 2
    if ((left < 20)); then
        echo "$name: NOT RUN, no time is left" | tee -a "$results/summary.txt"
        return 1
    fi
    echo "$name..."
    timeout -k 5 "$((seconds < left ? seconds : left))" "$@" >"$said" 2>&1
    code=$?
    # What is long says most at its end.
    { echo "=== $name: $*"; tail -c 100000 "$said"; } >>"$results/all.txt"
    echo "$name: exit code $code, $((SECONDS - started)) s" | tee -a "$results/summary.txt"
    ((code == 0)) || tail -n 15 "$said" | cut -c 1-300
    return "$code"
}

bench() { # NAME SECONDS MODEL OPTIONS...: in the summary, too
    local name=$1 seconds=$2 model=$3
    shift 3
    step "$name" "$seconds" "$tidemill" bench -m "$model" --backend gpu "$@" || return
    tail -n 20 "$models/step.txt" | cut -c 1-200 | tee -a "$results/summary.txt"
}

# Makes a model unless it is there: `model` is then its file.
make_model() { # QUANT OPTIONS...
    local quant=$1
    shift
    model=$models/$quant.gguf
    [ -f "$model" ] && return
    step "synth-$quant" 300 "$tidemill" synth --arch qwen3.5-35b-a3b --quant "$quant" "$@" -o "$model.part" &&
        mv "$model.part" "$model"
}

ask() { nvidia-smi --query-gpu="$1" --format=csv,noheader,nounits | head -1; }

check() {
    step operations 300 "$programs/gpu-ops" --test-threads=1
    step models 240 "$programs/gpu-models" --nocapture --test-threads=1
}

decode() {
    make_model Q4_K_M || return
    bench decode 120 "$model" -p 0 -n 64 -r 3
    # Which of the two pays, and whether they do together.
    TIDEMILL_GPU_DEPENDENT=on bench decode-dependent 120 "$model" -p 0 -n 64 -r 3
    TIDEMILL_GPU_GRAPHS=off bench decode-one-by-one 120 "$model" -p 0 -n 64 -r 3
    TIDEMILL_GPU_GRAPHS=off TIDEMILL_GPU_DEPENDENT=on bench decode-one-by-one-dependent 120 "$model" -p 0 -n 64 -r 3
    # Once more, for what the machine's warmth does.
    bench decode-again 120 "$model" -p 0 -n 64 -r 3
}

prefill() {
    make_model Q4_K_M || return
    bench prefill 120 "$model" -p 512,4096 -n 0 -r 2
    bench batch 180 "$model" -p 64 -n 32 --npl 1,4,16 -r 2
}

kernels() {
    make_model Q4_K_M || return
    if command -v nsys >/dev/null; then
        step kernels 240 nsys profile --stats=true -o "$models/profile" --force-overwrite true \
            "$tidemill" bench -m "$model" --backend gpu -p 0 -n 16 -r 1
    else
        echo "kernels: NOT RUN, no nsys" | tee -a "$results/summary.txt"
    fi
}

deep() {
    make_model Q4_K_M || return
    bench decode-16k 180 "$model" -p 0 -n 64 -d 16384 -r 2
    bench prefill-32k 240 "$model" -p 32768 -n 0 -r 1
    bench decode-128k 300 "$model" -p 0 -n 32 -d 131072 -r 1
}

# The CPU computes what a GPU of so much memory has no room for; what was planned for that, beside it.
cpu() {
    make_model Q4_K_M || return
    local gib left
    for gib in 8 12 16 24; do
        left=$(($(ask memory.free) - gib * 1024 + 1024))
        step "planned-${gib}g" 60 "$tidemill" plan -m "$model" --gpu "$(ask name)" --vram "${gib}G" -o json
        bench "placed-${gib}g" 300 "$model" --vram-target "$left" -p 512 -n 64 -r 3
    done
    bench experts-in-ram 300 "$model" --cpu-moe -p 512 -n 64 -r 3
}

types() {
    local quant
    for quant in Q8_0 MXFP4_MOE; do
        make_model "$quant" || continue
        bench "decode-$quant" 120 "$model" -p 0 -n 64 -r 3
        bench "prefill-$quant" 120 "$model" -p 512,4096 -n 0 -r 2
    done
    # All of its layers would not fit most disks.
    make_model BF16 --layers 8 || return
    bench decode-BF16-8-layers 120 "$model" -p 0 -n 64 -r 3
    bench prefill-BF16-8-layers 120 "$model" -p 512,4096 -n 0 -r 2
}

sanitize() {
    local tool
    if ! command -v compute-sanitizer >/dev/null; then
        echo "sanitize: NOT RUN, no compute-sanitizer" | tee -a "$results/summary.txt"
        return
    fi
    for tool in memcheck racecheck synccheck; do
        TIDEMILL_TEST_APART=1 PROPTEST_CASES=1 step "sanitizer-$tool" 300 compute-sanitizer --tool "$tool" \
            --error-exitcode 9 "$programs/gpu-ops" --test-threads=1
    done
}

# A compiler for kernels may lie in a Python that programs do not look into.
if [ -z "${TIDEMILL_NVRTC:-}" ] && command -v python3 >/dev/null; then
    found=$(python3 - <<'PYTHON'
import glob, sysconfig
print(next(iter(sorted(glob.glob(sysconfig.get_path("purelib") + "/nvidia/*/lib/libnvrtc.so.1[23]"))), ""))
PYTHON
    )
    [ -z "$found" ] || export TIDEMILL_NVRTC=$found
fi
# Test programs look for test models where the repository was when they were built.
built=$(cat "$programs/repository" 2>/dev/null || pwd)
if [ ! -e "$built" ]; then
    mkdir -p "$(dirname "$built")" && ln -s "$(realpath "$(dirname "$0")/..")" "$built"
fi
step machine 20 sh -c "nvidia-smi; nproc; free -g; df -h '$models'; echo NVRTC: '${TIDEMILL_NVRTC:-as found}'"
for part in $parts; do
    case $part in
        check | decode | prefill | kernels | deep | cpu | types | sanitize) "$part" ;;
        *) echo "$part is no part" && exit 2 ;;
    esac
done
exit 0
