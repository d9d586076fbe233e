#!/usr/bin/env bash
# Makes GGUF files with foreign writers, llama.cpp's logits on them, and their exact outputs; prints how far
# llama.cpp is from exact on each. About 400 MB and four minutes on one core.
#
#   PEER_PYTHON=/path/to/venv/bin/python scripts/make_peer_files.sh OUT_DIR
#
# PEER_PYTHON is an interpreter with llama-cpp-python; plain python3 has requirements.txt.
set -euo pipefail
out=${1:?usage: make_peer_files.sh OUT_DIR}
peer=${PEER_PYTHON:?set PEER_PYTHON to an interpreter that has llama-cpp-python}
here=$(cd "$(dirname "$0")" && pwd)
goldens=$here/../crates/model/tests/goldens
mkdir -p "$out"

# compare NAME PROMPT GOLDEN TENSOR: llama.cpp's logits on OUT/NAME.gguf against a golden
compare() {
    "$peer" "$here/peer_llamacpp.py" "$out/$1.gguf" --tokens "$2" --out "$out/$1.logits.safetensors" --greedy 16 >/dev/null
    printf '%-28s' "$1"
    python3 "$here/check_logits.py" --golden "$3" --against "$4" --logits "$out/$1.logits.safetensors" --bound 1000
}

# compare_exact NAME PROMPT: the same against the exact outputs of that very file
compare_exact() {
    python3 "$here/reference_of_gguf.py" "$out/$1.gguf" --tokens "$2" --out "$out/exact/$1" >/dev/null
    compare "$1" "$2" "$out/exact/$1" logits
}

for name in moe_text moe_composite dense_text qwen3_next; do
    python3 "$here/make_peer_gguf.py" "$goldens/$name" --out "$out/$name-f32.gguf" >/dev/null
    compare $name-f32 "$goldens/$name/prompt.json" "$goldens/$name" logits
    python3 "$here/make_peer_gguf.py" "$goldens/$name" --out "$out/$name-q8_0.gguf" --type q8_0 >/dev/null
    compare_exact $name-q8_0 "$goldens/$name/prompt.json"
done
python3 "$here/make_peer_gguf.py" "$goldens/dense_text" --config config_yarn.json --out "$out/dense_text-yarn.gguf" >/dev/null
compare dense_text-yarn "$goldens/dense_text/prompt.json" "$goldens/dense_text" yarn_logits

[ -d "$out/hf/peer_next" ] || python3 "$here/make_goldens.py" --peers --out "$out/hf"
for name in peer_moe peer_dense peer_next; do
    prompt=$out/hf/$name/prompt.json
    python3 "$here/make_peer_gguf.py" "$out/hf/$name" --out "$out/$name-f32.gguf" >/dev/null
    compare $name-f32 "$prompt" "$out/hf/$name" logits
    types="F16 BF16 Q8_0 Q4_K_M"
    [ $name != peer_moe ] || types="F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K_M Q4_K_M Q5_K_M Q6_K IQ4_NL IQ4_XS IQ3_S MXFP4_MOE"
    for type in $types; do
        "$peer" "$here/peer_llamacpp.py" "$out/$name-f32.gguf" --quantize "$type" --out "$out/$name-$type.gguf" || continue
        compare_exact "$name-$type" "$prompt"
    done
done
