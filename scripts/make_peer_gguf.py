#!/usr/bin/env python3
"""Converts a tiny safetensors checkpoint to GGUF with the `gguf` package's writer.

    python scripts/make_peer_gguf.py crates/model/tests/goldens/moe_text --out moe_text-f32.gguf --type f32

These are files that our own code had no part in: other engines read them, and ours must too. The
layout is that of ggml's converter for qwen35moe, qwen35 and qwen3next.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants
from safetensors.torch import load_file

ARCHITECTURES = {
    "qwen3_5_moe_text": "qwen35moe",
    "qwen3_5_text": "qwen35",
    "qwen3_next": "qwen3next",
}
TYPES = {
    "f32": GGMLQuantizationType.F32,
    "f16": GGMLQuantizationType.F16,
    "bf16": GGMLQuantizationType.BF16,
    "q8_0": GGMLQuantizationType.Q8_0,
    "q5_0": GGMLQuantizationType.Q5_0,
    "q5_1": GGMLQuantizationType.Q5_1,
    "q4_0": GGMLQuantizationType.Q4_0,
    "q4_1": GGMLQuantizationType.Q4_1,
    "mxfp4": GGMLQuantizationType.MXFP4,
}
FILE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "bf16": 32, "mxfp4": 38}
SPECIAL_TOKENS = 8


class Checkpoint:
    """Config and weights (F32) of a checkpoint directory, under flat names."""

    def __init__(self, directory, config_name):
        config = json.loads((directory / config_name).read_text())
        self.config = config.get("text_config", config)
        self.weights = {}
        for file in sorted(directory.glob("model*.safetensors")):
            for name, value in load_file(file).items():
                if "scale_inv" in name:
                    raise SystemExit("FP8 checkpoints are not converted")
                self.weights[name.replace("model.language_model.", "model.")] = value.float().numpy()

    def __getitem__(self, name):
        return self.weights[name]

    def __contains__(self, name):
        return name in self.weights

    def experts(self, prefix, kind):
        """[E, rows, columns] of gate, up or down, from fused or per-expert tensors."""
        fused = f"{prefix}experts.{'down_proj' if kind == 'down' else 'gate_up_proj'}"
        if fused in self:
            both = self[fused]
            half = both.shape[1] // 2
            return {"down": both, "gate": both[:, :half], "up": both[:, half:]}[kind]
        count = self.config["num_experts"]
        return np.stack([self[f"{prefix}experts.{e}.{kind}_proj.weight"] for e in range(count)])

    def rope(self):
        return self.config.get("rope_parameters") or {
            "rope_type": "default",
            "rope_theta": self.config["rope_theta"],
            "partial_rotary_factor": self.config["partial_rotary_factor"],
        }

    def layer_types(self):
        interval = self.config.get("full_attention_interval", 4)
        return self.config.get("layer_types") or [
            "linear_attention" if (i + 1) % interval else "full_attention"
            for i in range(self.config["num_hidden_layers"])
        ]


class Converter:
    def __init__(self, checkpoint, path, kind):
        self.checkpoint, self.kind = checkpoint, kind
        self.config = checkpoint.config
        self.arch = ARCHITECTURES[self.config["model_type"]]
        self.tiled = self.arch != "qwen3next"
        self.key_heads = self.config["linear_num_key_heads"]
        self.value_heads = self.config["linear_num_value_heads"]
        self.head_dim = self.config["linear_value_head_dim"]
        if self.config["linear_key_head_dim"] != self.head_dim:
            raise SystemExit("GGUF has one head size for keys and values")
        self.has_mtp = "mtp.fc.weight" in checkpoint
        self.writer = GGUFWriter(path, self.arch)

    def write(self):
        self.metadata()
        self.vocabulary()
        self.tensors()
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()

    def metadata(self):
        config, writer = self.config, self.writer
        rope = self.checkpoint.rope()
        rotary = int(config["head_dim"] * rope["partial_rotary_factor"])
        recurrent = [kind == "linear_attention" for kind in self.checkpoint.layer_types()]
        blocks = len(recurrent) + self.has_mtp

        def u32(key, value):
            writer.add_uint32(f"{self.arch}.{key}", value)

        writer.add_name("tiny random weights")
        writer.add_file_type(FILE_TYPES[self.kind])
        writer.add_quantization_version(2)
        u32("block_count", blocks)
        if self.has_mtp:
            u32("nextn_predict_layers", 1)
        u32("context_length", config["max_position_embeddings"])
        u32("embedding_length", config["hidden_size"])
        if self.arch == "qwen35":
            u32("feed_forward_length", config["intermediate_size"])
        u32("attention.head_count", config["num_attention_heads"])
        u32("attention.head_count_kv", config["num_key_value_heads"])
        u32("attention.key_length", config["head_dim"])
        u32("attention.value_length", config["head_dim"])
        writer.add_float32(f"{self.arch}.attention.layer_norm_rms_epsilon", config["rms_norm_eps"])
        if "layer_types" in config:
            writer.add_array(f"{self.arch}.attention.recurrent_layers", recurrent + [False] * self.has_mtp)
        else:
            u32("full_attention_interval", config["full_attention_interval"])
        writer.add_float32(f"{self.arch}.rope.freq_base", rope["rope_theta"])
        u32("rope.dimension_count", rotary)
        if "mrope_section" in rope:
            writer.add_array(f"{self.arch}.rope.dimension_sections", [*rope["mrope_section"], 0])
        if rope["rope_type"] == "yarn":
            writer.add_string(f"{self.arch}.rope.scaling.type", "yarn")
            writer.add_float32(f"{self.arch}.rope.scaling.factor", rope["factor"])
            u32("rope.scaling.original_context_length", rope["original_max_position_embeddings"])
        if "num_experts" in config:
            u32("expert_count", config["num_experts"])
            u32("expert_used_count", config["num_experts_per_tok"])
            u32("expert_feed_forward_length", config["moe_intermediate_size"])
            u32("expert_shared_feed_forward_length", config["shared_expert_intermediate_size"])
        u32("ssm.conv_kernel", config["linear_conv_kernel_dim"])
        u32("ssm.state_size", self.head_dim)
        u32("ssm.group_count", self.key_heads)
        u32("ssm.time_step_rank", self.value_heads)
        u32("ssm.inner_size", self.value_heads * self.head_dim)

    def vocabulary(self):
        """A byte-level BPE of the right size: 256 bytes, pairs of letters, eight control tokens."""
        size = self.config["vocab_size"]
        letters = "etaoinshrdlucmfw"
        count = size - 256 - SPECIAL_TOKENS
        pairs = [(a, b) for a in letters for b in letters][:count]
        control = [f"<|control_{i}|>" for i in range(SPECIAL_TOKENS - 2)] + ["<|im_end|>", "<|endoftext|>"]
        tokens = byte_alphabet() + [a + b for a, b in pairs]
        fillers = [f"[unused {i}]" for i in range(count - len(pairs))]
        kinds = [TokenType.NORMAL] * len(tokens) + [TokenType.UNUSED] * len(fillers)
        writer = self.writer
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen35" if self.tiled else "qwen2")
        writer.add_token_list(tokens + fillers + control)
        writer.add_token_types(kinds + [TokenType.CONTROL] * len(control))
        writer.add_token_merges([f"{a} {b}" for a, b in pairs])
        writer.add_eos_token_id(size - 1)
        writer.add_eot_token_id(size - 2)
        writer.add_add_bos_token(False)

    def tensors(self):
        checkpoint = self.checkpoint
        self.matrix("token_embd.weight", checkpoint["model.embed_tokens.weight"])
        self.plain("output_norm.weight", 1 + checkpoint["model.norm.weight"])
        if "lm_head.weight" in checkpoint:
            self.matrix("output.weight", checkpoint["lm_head.weight"])
        kinds = self.checkpoint.layer_types()
        for i, kind in enumerate(kinds):
            self.block(i, f"model.layers.{i}.", kind)
        if self.has_mtp:
            i = len(kinds)
            self.block(i, "mtp.layers.0.", "full_attention")
            self.matrix(f"blk.{i}.nextn.eh_proj.weight", checkpoint["mtp.fc.weight"])
            self.plain(f"blk.{i}.nextn.enorm.weight", 1 + checkpoint["mtp.pre_fc_norm_embedding.weight"])
            self.plain(f"blk.{i}.nextn.hnorm.weight", 1 + checkpoint["mtp.pre_fc_norm_hidden.weight"])
            self.plain(f"blk.{i}.nextn.shared_head_norm.weight", 1 + checkpoint["mtp.norm.weight"])

    def block(self, i, source, kind):
        get = lambda name: self.checkpoint[source + name]  # noqa: E731
        to = f"blk.{i}."
        self.plain(to + "attn_norm.weight", 1 + get("input_layernorm.weight"))
        self.plain(to + "post_attention_norm.weight", 1 + get("post_attention_layernorm.weight"))
        if kind == "full_attention":
            for ours, theirs in [("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("output", "o_proj")]:
                self.matrix(f"{to}attn_{ours}.weight", get(f"self_attn.{theirs}.weight"))
            self.plain(to + "attn_q_norm.weight", 1 + get("self_attn.q_norm.weight"))
            self.plain(to + "attn_k_norm.weight", 1 + get("self_attn.k_norm.weight"))
        else:
            self.delta(to, source + "linear_attn.")
        self.feed_forward(to, source + "mlp.")

    def delta(self, to, source):
        get = lambda name: self.checkpoint[source + name]  # noqa: E731
        keys = self.key_heads * self.head_dim
        if self.tiled:
            qkv, z = get("in_proj_qkv.weight"), get("in_proj_z.weight")
            self.matrix(to + "ssm_beta.weight", self.tile(get("in_proj_b.weight"), 1))
            self.matrix(to + "ssm_alpha.weight", self.tile(get("in_proj_a.weight"), 1))
        else:
            qkv, z = self.split_qkvz(get("in_proj_qkvz.weight"))
            self.matrix(to + "ssm_ba.weight", get("in_proj_ba.weight"))
        convolution = get("conv1d.weight")[:, 0]
        both = lambda rows: np.concatenate([rows[: 2 * keys], self.tile(rows[2 * keys :], self.head_dim)])  # noqa: E731
        self.matrix(to + "attn_qkv.weight", both(qkv))
        self.matrix(to + "attn_gate.weight", self.tile(z, self.head_dim))
        self.plain(to + "ssm_conv1d.weight", both(convolution))
        self.plain(to + "ssm_dt.bias", self.tile(get("dt_bias"), 1))
        self.plain(to + "ssm_a", self.tile(-np.exp(get("A_log")), 1))
        self.plain(to + "ssm_norm.weight", get("norm.weight"))
        self.matrix(to + "ssm_out.weight", self.tile(get("out_proj.weight").T, self.head_dim).T)

    def tile(self, rows, per_head):
        """Value heads from grouped (k0v0 k0v1 k1v0 k1v1) to tiled (k0v0 k1v0 k0v1 k1v1) order."""
        if not self.tiled:
            return rows
        rest = rows.shape[1:]
        grouped = rows.reshape(self.key_heads, self.value_heads // self.key_heads, per_head, *rest)
        return grouped.swapaxes(0, 1).reshape(rows.shape)

    def split_qkvz(self, rows):
        """From [q k v z] per key head to all q, all k, all v, and all z."""
        values = self.value_heads // self.key_heads * self.head_dim
        per_head = rows.reshape(self.key_heads, -1, rows.shape[1])
        cuts = np.cumsum([self.head_dim, self.head_dim, values])
        q, k, v, z = (part.reshape(-1, rows.shape[1]) for part in np.split(per_head, cuts, axis=1))
        return np.concatenate([q, k, v]), z

    def feed_forward(self, to, source):
        get = lambda name: self.checkpoint[source + name]  # noqa: E731
        if source + "gate.weight" not in self.checkpoint:
            for kind in ("gate", "up", "down"):
                self.matrix(f"{to}ffn_{kind}.weight", get(f"{kind}_proj.weight"))
            return
        self.plain(to + "ffn_gate_inp.weight", get("gate.weight"))
        self.plain(to + "ffn_gate_inp_shexp.weight", get("shared_expert_gate.weight")[0])
        for kind in ("gate", "up", "down"):
            self.matrix(f"{to}ffn_{kind}_exps.weight", self.checkpoint.experts(source, kind))
            self.matrix(f"{to}ffn_{kind}_shexp.weight", get(f"shared_expert.{kind}_proj.weight"))

    def plain(self, name, value):
        self.writer.add_tensor(name, np.ascontiguousarray(value, dtype=np.float32))

    def matrix(self, name, value):
        """Stored in the wanted type; rows that its blocks do not divide stay F16."""
        value = np.ascontiguousarray(value, dtype=np.float32)
        wanted = TYPES[self.kind]
        if self.kind == "mxfp4" and "_exps" not in name:
            wanted = GGMLQuantizationType.Q8_0
        block = 1 if wanted in (TYPES["f32"], TYPES["f16"], TYPES["bf16"]) else 32
        if value.shape[-1] % block:
            wanted = GGMLQuantizationType.F16
        self.writer.add_tensor(name, quants.quantize(value, wanted), raw_dtype=wanted)


def byte_alphabet():
    """The 256 printable characters that byte-level BPE writes bytes with, in byte order."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    alphabet, extra = [], 256
    for byte in range(256):
        if byte in printable:
            alphabet.append(chr(byte))
        else:
            alphabet.append(chr(extra))
            extra += 1
    return alphabet


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="directory with config.json and safetensors")
    parser.add_argument("--config", default="config.json", help="name of the config, e.g. config_yarn.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--type", choices=TYPES, default="f32")
    parser.add_argument("--no-mtp", action="store_true", help="leave the draft head out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    converter = Converter(Checkpoint(arguments.checkpoint, arguments.config), arguments.out, arguments.type)
    converter.has_mtp &= not arguments.no_mtp
    converter.write()
    print(f"{arguments.out}: {converter.arch}, {arguments.type}, {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
