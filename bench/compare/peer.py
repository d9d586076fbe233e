"""llama.cpp behind a line protocol: one JSON request per line in, one JSON answer per line out.

Runs in a process of its own, which stays alive between rounds, so that measuring in turn costs no
loading. Needs the PyPI package `llama-cpp-python`; everything goes through its ctypes binding, so
no Python stands between two steps but the filling of a batch.
"""

import ctypes
import json
import os
import sys
import time

from tokens import DEPTH_STREAM, Tokens

CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8, "bf16": 30}


class Peer:
    """A loaded model and at most one context."""

    def __init__(self):
        import llama_cpp
        import llama_cpp.llama_cpp as lib

        self.version = llama_cpp.__version__
        self.lib = lib
        self.model = None
        self.context = None
        self.held = []  # per sequence: the depth it is saved at, and the saved bytes
        self.repetition = 0
        lib.llama_backend_init()

        # The library talks on stderr, at length. Only warnings and errors are of interest.
        @lib.llama_log_callback
        def log(level, text, _):
            if 3 <= level <= 4 and os.environ.get("COMPARE_VERBOSE"):
                sys.stderr.write(text.decode("utf-8", "replace"))

        self.log = log
        lib.llama_log_set(log, ctypes.c_void_p(0))

    def about(self):
        return {
            "version": self.version,
            "system": self.lib.llama_print_system_info().decode(),
        }

    def load(self, path, repack, mmap=True):
        """Loads a model; answers its vocabulary."""
        lib = self.lib
        self.unload()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = 0
        params.use_extra_bufts = repack
        if hasattr(params, "load_mode"):
            params.load_mode = lib.LLAMA_LOAD_MODE_MMAP if mmap else lib.LLAMA_LOAD_MODE_NONE
        else:
            params.use_mmap = mmap
        load = getattr(lib, "llama_model_load_from_file", None) or lib.llama_load_model_from_file
        self.model = load(path.encode(), params)
        if not self.model:
            raise RuntimeError(f"llama.cpp cannot load {path}")
        vocabulary = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.vocabulary = vocabulary
        return {"vocabulary": vocabulary}

    def open(self, context, sequences, threads, ubatch, flash, key, value, batch=2048):
        """Makes a context of `context` tokens for each of `sequences` sequences."""
        lib = self.lib
        self.close()
        params = lib.llama_context_default_params()
        params.n_ctx = context * sequences
        params.n_seq_max = sequences
        params.n_batch = batch
        params.n_ubatch = ubatch
        params.n_threads = params.n_threads_batch = threads
        if hasattr(params, "flash_attn_type"):
            params.flash_attn_type = 1 if flash else 0
        else:
            params.flash_attn = flash
        params.type_k = CACHE_TYPES[key]
        params.type_v = CACHE_TYPES[value]
        params.no_perf = True
        init = getattr(lib, "llama_init_from_model", None) or lib.llama_new_context_with_model
        self.context = init(self.model, params)
        if not self.context:
            raise RuntimeError("llama.cpp cannot make a context of these settings")
        self.n_batch = batch
        self.batch = lib.llama_batch_init(batch, 0, 1)
        self.held = [(0, None) for _ in range(sequences)]
        self.past = [0] * sequences
        return {}

    def close(self):
        if self.context:
            self.lib.llama_batch_free(self.batch)
            self.lib.llama_free(self.context)
            self.context = None

    def unload(self):
        self.close()
        if self.model:
            free = getattr(self.lib, "llama_model_free", None) or self.lib.llama_free_model
            free(self.model)
            self.model = None

    def decode(self, rows, logits):
        """One call: `rows` of (sequence, token); logits of all rows, the last, or none."""
        batch = self.batch
        for index, (sequence, token) in enumerate(rows):
            batch.token[index] = token
            batch.pos[index] = self.past[sequence]
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = logits == "all" or (logits == "last" and index == len(rows) - 1)
            self.past[sequence] += 1
        batch.n_tokens = len(rows)
        code = self.lib.llama_decode(self.context, batch)
        if code != 0:
            raise RuntimeError(f"llama_decode says {code}")
        self.lib.llama_synchronize(self.context)

    def prefill(self, sequence, tokens, wants_logits):
        for start in range(0, len(tokens), self.n_batch):
            part = tokens[start : start + self.n_batch]
            is_last = start + len(part) == len(tokens)
            rows = [(sequence, token) for token in part]
            self.decode(rows, "last" if wants_logits and is_last else "none")

    def forget(self, sequence):
        memory = self.lib.llama_get_memory(self.context)
        self.lib.llama_memory_seq_rm(memory, sequence, -1, -1)
        self.past[sequence] = 0

    def rewind(self, sequence):
        depth, saved = self.held[sequence]
        self.forget(sequence)
        if depth > 0:
            buffer = (ctypes.c_uint8 * len(saved)).from_buffer(saved)
            got = self.lib.llama_state_seq_set_data(self.context, buffer, len(saved), sequence)
            if got == 0:
                raise RuntimeError("llama.cpp cannot restore a sequence")
            self.past[sequence] = depth

    def reach(self, depth, sequences):
        """Makes sequences hold `depth` tokens, and saves them there."""
        lib = self.lib
        for sequence in range(sequences):
            held, _ = self.held[sequence]
            if held == depth:
                continue
            if held > depth:
                self.held[sequence] = (0, None)
                held = 0
            self.rewind(sequence)
            tokens = Tokens(DEPTH_STREAM + sequence, self.vocabulary).take(depth)
            self.prefill(sequence, tokens[held:], False)
            size = lib.llama_state_seq_get_size(self.context, sequence)
            saved = bytearray(size)
            buffer = (ctypes.c_uint8 * size).from_buffer(saved)
            if lib.llama_state_seq_get_data(self.context, buffer, size, sequence) != size:
                raise RuntimeError("llama.cpp cannot save a sequence")
            self.held[sequence] = (depth, saved)
        return {}

    def run(self, kind, tokens, depth, sequences=1):
        """One repetition; answers its nanoseconds."""
        self.reach(depth, sequences)
        for sequence in range(len(self.held)):
            if sequence < sequences:
                self.rewind(sequence)
            else:
                self.forget(sequence)
        self.repetition += 1
        stream = Tokens(self.repetition, self.vocabulary)
        if kind == "prefill":
            prompt = stream.take(tokens)
            start = time.perf_counter_ns()
            self.prefill(0, prompt, True)
        else:
            steps = [list(enumerate(stream.take(sequences))) for _ in range(tokens)]
            start = time.perf_counter_ns()
            for step in steps:
                self.decode(step, "all")
        return {"ns": time.perf_counter_ns() - start}

    def quantize(self, source, target, ftype):
        """Writes a file in another mix."""
        lib = self.lib
        params = lib.llama_model_quantize_default_params()
        params.ftype = ftype
        params.allow_requantize = True
        if lib.llama_model_quantize(source.encode(), target.encode(), params) != 0:
            raise RuntimeError(f"llama.cpp cannot quantise {source}")
        return {}

    def logits(self, tokens, out):
        """Writes the logits after every token as f32; answers how many a row has."""
        self.forget(0)
        with open(out, "wb") as file:
            for start in range(0, len(tokens), self.n_batch):
                rows = [(0, token) for token in tokens[start : start + self.n_batch]]
                self.decode(rows, "all")
                for index in range(len(rows)):
                    logits = self.lib.llama_get_logits_ith(self.context, index)
                    file.write(ctypes.string_at(logits, 4 * self.vocabulary))
        return {"columns": self.vocabulary}

    def first_token(self, path, repack, threads, prompt):
        """From the path to the first token; answers the nanoseconds."""
        start = time.perf_counter_ns()
        self.load(path, repack)
        self.open(512, 1, threads, 512, True, "f16", "f16")
        ready = time.perf_counter_ns()
        self.prefill(0, Tokens(0, self.vocabulary).take(prompt), True)
        # Reading the logits makes them be there; choosing the largest would measure Python.
        self.lib.llama_get_logits_ith(self.context, -1)[0]
        end = time.perf_counter_ns()
        return {"ready_ns": ready - start, "ns": end - start}


def main():
    # The library must not write into the protocol.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        peer = Peer()
    except ImportError as error:
        answers.write(json.dumps({"error": f"no llama_cpp in {sys.executable}: {error}"}) + "\n")
        answers.flush()
        return
    answers.write(json.dumps(peer.about()) + "\n")
    answers.flush()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(peer, request.pop("do"))(**request)
        except Exception as error:  # whatever it is, the other side has to know
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    peer.unload()


if __name__ == "__main__":
    main()
