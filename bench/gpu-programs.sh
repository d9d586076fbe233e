#!/usr/bin/env bash
# Builds what bench/gpu.sh runs, into one folder that can be copied to a machine with a GPU:
#
#     bench/gpu-programs.sh FOLDER
#
# Without what debuggers read, for whoever may carry little. The repository has to be there too, for the models of tests.
set -euo pipefail
folder=$1
mkdir -p "$folder"
test_program() { # ARGUMENTS: the file that `cargo test --no-run` made
    cargo test --release --locked --no-run --message-format=json "$@" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1
}
cargo build --release --locked --bin tidemill
cp "$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release/tidemill" "$folder/tidemill"
cp "$(test_program -p tidemill-gpu --lib)" "$folder/gpu-ops"
cp "$(test_program -p tidemill-engine --test gpu)" "$folder/gpu-models"
strip --strip-debug "$folder/tidemill" "$folder/gpu-ops" "$folder/gpu-models" || echo "no strip: the programs are large"
pwd >"$folder/repository"
du -h "$folder"/*
