#!/usr/bin/env python3
"""Runs the reference library, in F64, on the dequantised weights of a small GGUF of the family.

    python scripts/reference_of_gguf.py model-Q4_K_M.gguf --tokens prompt.json --out golden_dir

The result is a golden directory like those of make_goldens.py, without the weights: the exact outputs
of the file as quantised. An engine's distance from it is the error of its arithmetic alone.
Dequantisation is the `gguf` package's.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

from make_goldens import Reference, exact, expected_outputs, save_golden, shown
from tiny_models import Case

FAMILIES = {"qwen35moe": "qwen3_5_moe", "qwen35": "qwen3_5", "qwen3next": "qwen3_next"}


class File:
    """Metadata and dequantised tensors (F64) of a GGUF."""

    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)
        self.arch = self.field("general.architecture")
        self.stored = {tensor.name: tensor for tensor in self.reader.tensors}

    def field(self, key, default=None):
        found = self.reader.get_field(key)
        return default if found is None else found.contents()

    def get(self, key, default=None):
        value = self.field(f"{self.arch}.{key}", default)
        if value is None:
            raise SystemExit(f"the file has no {self.arch}.{key}")
        return value

    def __contains__(self, name):
        return name in self.stored

    def __getitem__(self, name):
        tensor = self.stored[name]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        shape = [int(n) for n in reversed(tensor.shape)]
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64)).reshape(shape)


def text_config(file):
    layers = file.get("block_count") - file.get("nextn_predict_layers", 0)
    interval = file.get("full_attention_interval", 4)
    recurrent = file.get("attention.recurrent_layers", [(i + 1) % interval != 0 for i in range(layers)])
    head_dim = file.get("attention.key_length")
    rope = {
        "rope_type": "default",
        "rope_theta": file.get("rope.freq_base"),
        "partial_rotary_factor": file.get("rope.dimension_count") / head_dim,
    }
    if file.arch != "qwen3next":
        rope["mrope_section"] = file.get("rope.dimension_sections")[:3]
    if file.get("rope.scaling.type", "none") == "yarn":
        rope |= {
            "rope_type": "yarn",
            "factor": file.get("rope.scaling.factor"),
            "original_max_position_embeddings": file.get("rope.scaling.original_context_length"),
        }
    config = dict(
        vocab_size=int(file.stored["token_embd.weight"].shape[1]),
        hidden_size=file.get("embedding_length"),
        num_hidden_layers=layers,
        layer_types=["linear_attention" if kind else "full_attention" for kind in recurrent[:layers]],
        num_attention_heads=file.get("attention.head_count"),
        num_key_value_heads=file.get("attention.head_count_kv"),
        head_dim=head_dim,
        max_position_embeddings=file.get("context_length"),
        rms_norm_eps=file.get("attention.layer_norm_rms_epsilon"),
        rope_parameters=rope,
        linear_conv_kernel_dim=file.get("ssm.conv_kernel"),
        linear_key_head_dim=file.get("ssm.state_size"),
        linear_value_head_dim=file.get("ssm.state_size"),
        linear_num_key_heads=file.get("ssm.group_count"),
        linear_num_value_heads=file.get("ssm.time_step_rank"),
        tie_word_embeddings="output.weight" not in file,
    )
    if file.arch == "qwen35":
        return config | {"intermediate_size": file.get("feed_forward_length")}
    return config | dict(
        num_experts=file.get("expert_count"),
        num_experts_per_tok=file.get("expert_used_count"),
        moe_intermediate_size=file.get("expert_feed_forward_length"),
        shared_expert_intermediate_size=file.get("expert_shared_feed_forward_length"),
    )


class Weights:
    """The library's parameters out of the file's tensors: the converter's changes undone."""

    def __init__(self, file, config):
        self.file, self.config = file, config
        self.tiled = file.arch != "qwen3next"
        self.key_heads = config["linear_num_key_heads"]
        self.group = config["linear_num_value_heads"] // self.key_heads
        self.head_dim = config["linear_value_head_dim"]
        self.parameters = {}

    def read(self):
        file, put = self.file, self.parameters
        put["model.embed_tokens.weight"] = file["token_embd.weight"]
        put["model.norm.weight"] = file["output_norm.weight"] - 1
        put["lm_head.weight"] = file["output.weight" if "output.weight" in file else "token_embd.weight"]
        layers = self.config["num_hidden_layers"]
        for i, kind in enumerate(self.config["layer_types"]):
            self.block(f"blk.{i}.", f"model.layers.{i}.", kind)
        draft = f"blk.{layers}."
        if draft + "nextn.eh_proj.weight" in file:
            self.block(draft, "mtp.layers.0.", "full_attention")
            put["mtp.fc.weight"] = file[draft + "nextn.eh_proj.weight"]
            put["mtp.pre_fc_norm_embedding.weight"] = file[draft + "nextn.enorm.weight"] - 1
            put["mtp.pre_fc_norm_hidden.weight"] = file[draft + "nextn.hnorm.weight"] - 1
            put["mtp.norm.weight"] = file[draft + "nextn.shared_head_norm.weight"] - 1
        return self.parameters

    def block(self, source, to, kind):
        file, put = self.file, self.parameters
        put[to + "input_layernorm.weight"] = file[source + "attn_norm.weight"] - 1
        put[to + "post_attention_layernorm.weight"] = file[source + "post_attention_norm.weight"] - 1
        if kind == "full_attention":
            for theirs, ours in [("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("output", "o_proj")]:
                put[f"{to}self_attn.{ours}.weight"] = file[f"{source}attn_{theirs}.weight"]
            for name in ("q_norm", "k_norm"):
                put[f"{to}self_attn.{name}.weight"] = file[f"{source}attn_{name}.weight"] - 1
        else:
            self.delta(source, to + "linear_attn.")
        self.feed_forward(source, to + "mlp.")

    def delta(self, source, to):
        file, put = self.file, self.parameters
        keys = 2 * self.key_heads * self.head_dim
        rows = lambda value: torch.cat([value[:keys], self.untile(value[keys:], self.head_dim)])  # noqa: E731
        put[to + "conv1d.weight"] = rows(file[source + "ssm_conv1d.weight"])[:, None]
        put[to + "dt_bias"] = self.untile(file[source + "ssm_dt.bias"], 1)
        put[to + "A_log"] = self.untile(file[source + "ssm_a"], 1).neg().log()
        put[to + "norm.weight"] = file[source + "ssm_norm.weight"]
        put[to + "out_proj.weight"] = self.untile(file[source + "ssm_out.weight"].T, self.head_dim).T
        qkv, z = rows(file[source + "attn_qkv.weight"]), self.untile(file[source + "attn_gate.weight"], self.head_dim)
        if self.tiled:
            put[to + "in_proj_qkv.weight"], put[to + "in_proj_z.weight"] = qkv, z
            put[to + "in_proj_b.weight"] = self.untile(file[source + "ssm_beta.weight"], 1)
            put[to + "in_proj_a.weight"] = self.untile(file[source + "ssm_alpha.weight"], 1)
        else:
            per_head = [part.chunk(self.key_heads) for part in (*qkv[:keys].chunk(2), qkv[keys:], z)]
            put[to + "in_proj_qkvz.weight"] = torch.cat([torch.cat(parts) for parts in zip(*per_head)])
            put[to + "in_proj_ba.weight"] = file[source + "ssm_ba.weight"]

    def untile(self, rows, per_head):
        """Value heads from tiled back to grouped order."""
        if not self.tiled:
            return rows
        return rows.reshape(self.group, self.key_heads, per_head, -1).transpose(0, 1).reshape(rows.shape)

    def feed_forward(self, source, to):
        file, put = self.file, self.parameters
        if source + "ffn_gate_inp.weight" not in file:
            for kind in ("gate", "up", "down"):
                put[f"{to}{kind}_proj.weight"] = file[f"{source}ffn_{kind}.weight"]
            return
        put[to + "gate.weight"] = file[source + "ffn_gate_inp.weight"]
        put[to + "shared_expert_gate.weight"] = file[source + "ffn_gate_inp_shexp.weight"].reshape(1, -1)
        fused = source + "ffn_gate_up_exps.weight"
        parts = [file[f"{source}ffn_{kind}_exps.weight"] for kind in ("gate", "up") if fused not in file]
        put[to + "experts.gate_up_proj"] = torch.cat(parts, 1) if parts else file[fused]
        put[to + "experts.down_proj"] = file[source + "ffn_down_exps.weight"]
        for kind in ("gate", "up", "down"):
            put[f"{to}shared_expert.{kind}_proj.weight"] = file[f"{source}ffn_{kind}_shexp.weight"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--tokens", type=Path, required=True, help="JSON list of token ids")
    parser.add_argument("--out", type=Path, required=True, help="golden directory to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()

    file = File(arguments.model)
    if file.arch not in FAMILIES:
        raise SystemExit(f"{file.arch} is not of this family")
    config = text_config(file)
    parameters = Weights(file, config).read()
    case = Case(
        name=arguments.model.stem,
        note=f"exact outputs of {arguments.model.name} as quantised",
        family=FAMILIES[file.arch],
        text=config,
        dtype=torch.float64,
        mtp="mtp.fc.weight" in parameters,
    )
    prompt = json.loads(arguments.tokens.read_text())
    with exact():
        reference = Reference(case)
        reference.load(parameters)
        golden, facts, _ = expected_outputs(case, reference, prompt)
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_golden(arguments.out, golden, {"note": case.note} | facts, prompt)
    print(f"{case.name}: {shown(facts)}")


if __name__ == "__main__":
    main()
