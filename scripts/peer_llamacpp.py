#!/usr/bin/env python3
"""Runs llama.cpp (through llama-cpp-python, on the CPU) on a GGUF and writes its logits.

    peer_llamacpp.py model.gguf --tokens prompt.json --out logits.safetensors [--greedy 16]
    peer_llamacpp.py model.gguf --quantize Q4_K_M --out smaller.gguf

`logits` [T, V] holds a row per token of the prompt, computed in one batch; `greedy_tokens` [N] and
`greedy_logits` [N, V] (row i follows token i) hold a greedy continuation with the cache. Keys and
values are cached in F32 unless --cache-type says otherwise. `check_logits.py` reads the result.
"""

import argparse
import ctypes
import json
import sys
from pathlib import Path

import llama_cpp
import numpy as np
from safetensors.numpy import save_file

CACHE_TYPES = {"f32": 0, "f16": 1, "q8_0": 8}


class Peer:
    """One model and one sequence, through the C interface: nothing of the wrapper's own cache logic."""

    def __init__(self, path, context, threads, cache_type, flash_attention):
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.model:
            sys.exit(f"llama.cpp does not load {path}")
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = context
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.type_k = parameters.type_v = CACHE_TYPES[cache_type]
        parameters.flash_attn_type = 1 if flash_attention else 0
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        if not self.context:
            sys.exit("llama.cpp makes no context for this model")
        vocabulary = llama_cpp.llama_model_get_vocab(self.model)
        self.vocabulary_size = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self.position = 0

    def run(self, tokens):
        """Feeds tokens after those already fed; returns their logits [T, V]."""
        batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = self.position + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = 0
            batch.logits[i] = 1
        status = llama_cpp.llama_decode(self.context, batch)
        if status != 0:
            sys.exit(f"llama_decode failed: {status}")
        self.position += len(tokens)
        rows = [
            np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, i), (self.vocabulary_size,)).copy()
            for i in range(len(tokens))
        ]
        llama_cpp.llama_batch_free(batch)
        return np.stack(rows)


def quantize(source, kind, out):
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    parameters.nthread = 1
    status = llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.byref(parameters))
    if status != 0:
        sys.exit(f"llama.cpp does not quantise {source} to {kind}: {status}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, help="JSON list of token ids")
    parser.add_argument("--greedy", type=int, default=0, help="how many tokens to continue with")
    parser.add_argument("--chunk", type=int, help="feed the prompt in pieces of this many tokens")
    parser.add_argument("--quantize", metavar="TYPE", help="write a quantised copy instead, e.g. Q4_K_M")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache-type", choices=CACHE_TYPES, default="f32")
    parser.add_argument("--flash-attention", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="llama.cpp's own log")
    arguments = parser.parse_args()

    if not arguments.verbose:
        llama_cpp.llama_log_set(SILENT, None)
    if arguments.quantize:
        return quantize(arguments.model, arguments.quantize, arguments.out)
    if not arguments.tokens:
        parser.error("--tokens is needed")

    tokens = json.loads(arguments.tokens.read_text())
    context = -(-(len(tokens) + arguments.greedy) // 256) * 256
    peer = Peer(arguments.model, context, arguments.threads, arguments.cache_type, arguments.flash_attention)
    step = arguments.chunk or len(tokens)
    pieces = [peer.run(tokens[i : i + step]) for i in range(0, len(tokens), step)]
    result = {"logits": np.concatenate(pieces)}
    if arguments.greedy:
        chosen, rows, last = [], [], result["logits"][-1]
        for _ in range(arguments.greedy):
            chosen.append(int(last.argmax()))
            last = peer.run(chosen[-1:])[0]
            rows.append(last)
        result |= {"greedy_tokens": np.array(chosen, dtype=np.int32), "greedy_logits": np.stack(rows)}
        print(json.dumps(chosen))
    save_file(result, arguments.out)


SILENT = llama_cpp.llama_log_callback(lambda level, text, data: None)

if __name__ == "__main__":
    main()
