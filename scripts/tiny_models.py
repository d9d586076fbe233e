"""The tiny checkpoints behind the goldens: their configs, their random weights, their file layouts.

Everything here is data or a pure function of (case, seed). Running the models and writing the
expected outputs is `make_goldens.py`.
"""

import copy
import math
import re
import zlib
from dataclasses import dataclass, field

import torch

VOCAB = 272
SPECIAL_TOKENS = 8  # the last ids; prompts do not use them
F8_MAX = 448.0
F8_BLOCK = 128


@dataclass(frozen=True)
class Case:
    """One tiny checkpoint: which library class, how large, and how its files are laid out."""

    name: str
    note: str
    family: str  # a key of FAMILIES
    text: dict  # the text config, as keyword arguments of the library's config class
    dtype: torch.dtype  # storage type of every tensor that `storage_dtype` does not single out
    layout: str = "per_expert"  # or "fused"
    composite: bool = False  # text_config/vision_config and the `model.language_model.` prefix
    f32_state: bool = False  # A_log and the gated norm in F32, as in released 3.5 files
    fp8: bool = False
    shards: int = 1
    mtp: bool = True
    mrope: bool = False  # also run a prompt with three different position axes
    yarn: dict | None = None  # rope_parameters of a second golden over the same weights
    vision: dict = field(default_factory=dict)
    committed: bool = True
    first_seed: int = 1  # seeds below it are known to have near-ties


FAMILIES = {
    "qwen3_5": ("Qwen3_5TextConfig", "Qwen3_5ForCausalLM"),
    "qwen3_5_moe": ("Qwen3_5MoeTextConfig", "Qwen3_5MoeForCausalLM"),
    "qwen3_next": ("Qwen3NextConfig", "Qwen3NextForCausalLM"),
}


def rope(theta, partial=0.25, section=(2, 1, 1)):
    """Rope parameters in the form that released 3.5 configs use."""
    return {
        "rope_type": "default",
        "rope_theta": theta,
        "partial_rotary_factor": partial,
        "mrope_section": list(section),
        "mrope_interleaved": True,
    }


def text_config(layers, **changes):
    """Sizes shared by all cases; `changes` says what a case does differently."""
    config = dict(
        vocab_size=VOCAB,
        hidden_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        rms_norm_eps=1e-6,
        rope_parameters=rope(5000.0),
        linear_conv_kernel_dim=4,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        tie_word_embeddings=False,
        eos_token_id=VOCAB - 1,
    )
    config.update(changes)
    return config


def moe(experts, top_k, width, shared):
    return dict(
        num_experts=experts,
        num_experts_per_tok=top_k,
        moe_intermediate_size=width,
        shared_expert_intermediate_size=shared,
    )


VISION = dict(
    depth=1,
    hidden_size=16,
    intermediate_size=24,
    num_heads=2,
    patch_size=4,
    spatial_merge_size=2,
    temporal_patch_size=2,
    num_position_embeddings=16,
)

# The two `peer_*` cases are wide enough for every block quantisation (rows of 256). They are large,
# so they are made on demand and not committed.
PEER_SIZES = dict(
    vocab_size=512,
    hidden_size=256,
    head_dim=64,
    rope_parameters=rope(10_000_000.0, 0.25, (3, 3, 2)),
    linear_key_head_dim=64,
    linear_value_head_dim=64,
    eos_token_id=511,
)

CASES = [
    Case(
        "moe_text",
        "flat MoE text model as re-saved by the library: one tensor per expert, F32",
        "qwen3_5_moe",
        text_config(8, **moe(8, 3, 16, 24)),
        torch.float32,
        first_seed=14,
    ),
    Case(
        "moe_composite",
        "composite MoE checkpoint in the released form: fused experts, BF16 with F32 A_log and gated norm, "
        "a tiny vision tower, as many key heads as value heads",
        "qwen3_5_moe",
        text_config(
            4,
            rope_parameters=rope(10_000_000.0),
            linear_num_key_heads=4,
            linear_num_value_heads=4,
            **moe(6, 2, 16, 16),
        ),
        torch.bfloat16,
        layout="fused",
        composite=True,
        f32_state=True,
        vision=VISION,
        mrope=True,
        first_seed=2,
    ),
    Case(
        "dense_text",
        "flat dense model: tied embeddings, two shards, BF16, three value heads and three query heads a group",
        "qwen3_5",
        text_config(
            4,
            intermediate_size=96,
            num_attention_heads=6,
            linear_num_value_heads=6,
            rope_parameters=rope(20_000.0, 0.5, (3, 3, 2)),
            max_position_embeddings=300,
            tie_word_embeddings=True,
        ),
        torch.bfloat16,
        shards=2,
        mrope=True,
        yarn={
            **rope(20_000.0, 0.5, (3, 3, 2)),
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 300,
        },
    ),
    Case(
        "qwen3_next",
        "the older layout: projections fused by key head, plain rope given at top level, F16",
        "qwen3_next",
        text_config(
            4,
            rope_parameters={"rope_type": "default", "rope_theta": 8000.0, "partial_rotary_factor": 0.25},
            intermediate_size=96,
            norm_topk_prob=True,
            **moe(10, 4, 16, 24),
        ),
        torch.float16,
        first_seed=7,
    ),
    Case(
        "fp8",
        "F8_E4M3 weights with a scale per 128x128 block and partial blocks at the edges; two layers by layer_types",
        "qwen3_5_moe",
        text_config(
            2,
            layer_types=["linear_attention", "full_attention"],
            hidden_size=160,
            linear_key_head_dim=32,
            linear_value_head_dim=32,
            tie_word_embeddings=True,
            **moe(4, 2, 24, 40),
        ),
        torch.bfloat16,
        f32_state=True,
        fp8=True,
        mtp=False,
    ),
    Case(
        "peer_moe",
        "MoE model with rows of 256, for comparisons with other engines on quantised files",
        "qwen3_5_moe",
        text_config(4, **PEER_SIZES, **moe(8, 2, 256, 256)),
        torch.bfloat16,
        committed=False,
    ),
    Case(
        "peer_dense",
        "dense model with rows of 256, for comparisons with other engines on quantised files",
        "qwen3_5",
        text_config(4, **PEER_SIZES | dict(intermediate_size=512, linear_num_value_heads=6)),
        torch.bfloat16,
        committed=False,
    ),
    Case(
        "peer_next",
        "qwen3_next model with rows of 256, for comparisons with other engines on quantised files",
        "qwen3_next",
        text_config(
            4,
            **PEER_SIZES
            | dict(
                rope_parameters={"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25},
                intermediate_size=512,
                norm_topk_prob=True,
            ),
            **moe(8, 3, 256, 256),
        ),
        torch.bfloat16,
        committed=False,
    ),
]


# --- random weights ---------------------------------------------------------------------------------


def random_weight(name, shape, seed, tied):
    """The tensor called `name`, a function of name and seed alone, scaled so that every part matters.

    Logits get a standard deviation of about 2.5, normalisation weights are far from their neutral
    value, and decay rates range from a few tokens to a few hundred.
    """
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/{name}".encode()))

    def normal(std, mean=0.0):
        return torch.randn(shape, generator=generator) * std + mean

    fan_in = shape[-1]
    last = name.rsplit(".", 1)[-1]
    if last == "A_log":
        return normal(1.2, -2.0)
    if last == "dt_bias":
        return normal(1.0)
    if last == "bias":
        return normal(0.3)
    if "conv1d" in name:
        return normal(0.5)
    if "linear_attn.norm" in name or re.search(r"visual.*norm", name):
        return normal(0.3, 1.0)
    if re.search(r"norm\w*\.weight$", name):
        return normal(0.3, 0.5 if "q_norm" in name else 0.0)
    if "embed_tokens" in name:
        return normal(2.5 / math.sqrt(fan_in) if tied else 1.0)
    if "lm_head" in name:
        return normal(2.5 / math.sqrt(fan_in))
    if name.endswith("mlp.gate.weight"):
        return normal(2.0 / math.sqrt(fan_in))
    if "in_proj" in name:
        return normal(1.5 / math.sqrt(fan_in))
    if "patch_embed" in name:
        fan_in = math.prod(shape[1:])
    return normal(1.2 / math.sqrt(fan_in))


# --- file layout ------------------------------------------------------------------------------------


def to_file_tensors(case, name, weight):
    """Splits the library's parameter `name` (flat, `model.` or `mtp.`) into the tensors of the file."""
    if case.composite:
        name = re.sub(r"^model\.(?!visual)", "model.language_model.", name)
    if case.layout == "fused" or ".experts." not in name:
        return {name: weight}
    stem, kind = name.rsplit(".", 1)
    tensors = {}
    for expert, matrix in enumerate(weight):
        if kind == "down_proj":
            tensors[f"{stem}.{expert}.down_proj.weight"] = matrix
        else:
            gate, up = matrix.chunk(2)
            tensors[f"{stem}.{expert}.gate_proj.weight"] = gate
            tensors[f"{stem}.{expert}.up_proj.weight"] = up
    return tensors


def from_file_tensors(case, name, tensors):
    """The inverse of `to_file_tensors`, on tensors widened to F32."""
    values = list(tensors.values())
    if len(values) == 1:
        return values[0]
    if name.endswith("gate_up_proj"):
        values = [torch.cat(pair) for pair in zip(values[0::2], values[1::2])]
    return torch.stack(values)


def is_fp8_weight(name):
    return bool(
        re.search(r"(q_proj|k_proj|v_proj|o_proj|in_proj_qkv|in_proj_z|out_proj)\.weight$", name)
        or re.search(r"(experts\.\d+|shared_expert)\.(gate|up|down)_proj\.weight$", name)
    )


def store(case, name, weight):
    """What the file holds for one tensor, and the F32 values a reader gets back from it."""
    if case.fp8 and is_fp8_weight(name):
        scale_dtype = torch.float32 if "experts." in name else torch.bfloat16  # both occur in the wild
        rows, columns = weight.shape
        scales = torch.empty(-(-rows // F8_BLOCK), -(-columns // F8_BLOCK), dtype=scale_dtype)
        stored = torch.empty_like(weight, dtype=torch.float8_e4m3fn)
        read = torch.empty_like(weight)
        for i in range(scales.shape[0]):
            for j in range(scales.shape[1]):
                at = (
                    slice(i * F8_BLOCK, (i + 1) * F8_BLOCK),
                    slice(j * F8_BLOCK, (j + 1) * F8_BLOCK),
                )
                scales[i, j] = weight[at].abs().max() / F8_MAX
                scale = scales[i, j].float()
                stored[at] = (weight[at] / scale).clamp(-F8_MAX, F8_MAX).to(torch.float8_e4m3fn)
                read[at] = stored[at].float() * scale
        return {name: stored, name + "_scale_inv": scales}, read
    keep_f32 = case.f32_state and ("A_log" in name or "linear_attn.norm" in name)
    stored = weight.to(torch.float32 if keep_f32 else case.dtype)
    return {name: stored.contiguous()}, stored.float()


def make_weights(case, shapes, seed):
    """Returns (parameters in F32 as a reader sees them, tensors of the file)."""
    parameters, file_tensors = {}, {}
    tied = case.text["tie_word_embeddings"]
    for name, shape in shapes.items():
        if tied and name == "lm_head.weight":
            continue
        read = {}
        for part, weight in to_file_tensors(case, name, random_weight(name, shape, seed, tied)).items():
            stored, read[part] = store(case, part, weight.contiguous())
            file_tensors.update(stored)
        parameters[name] = from_file_tensors(case, name, read)
    if tied:
        parameters["lm_head.weight"] = parameters["model.embed_tokens.weight"]
    return parameters, file_tensors


def config_json(case, library_config):
    """config.json as users meet it, from the library's own dump of the text config."""
    text = copy.deepcopy(library_config)
    text["dtype"] = str(case.dtype).removeprefix("torch.")
    architecture = FAMILIES[case.family][1]
    if case.mtp:
        text["mtp_num_hidden_layers"] = 1
        text["mtp_use_dedicated_embeddings"] = False
    if case.family == "qwen3_next":  # released files predate rope_parameters and layer_types
        parameters = text.pop("rope_parameters")
        text |= {
            "rope_theta": parameters["rope_theta"],
            "partial_rotary_factor": parameters["partial_rotary_factor"],
            "rope_scaling": None,
            "full_attention_interval": 4,
        }
        text.pop("layer_types")
    if case.fp8:
        text["quantization_config"] = {
            "quant_method": "fp8",
            "fmt": "e4m3",
            "activation_scheme": "dynamic",
            "weight_block_size": [F8_BLOCK, F8_BLOCK],
        }
    if not case.composite:
        return text | {"architectures": [architecture]}
    text |= {"attn_output_gate": True, "mamba_ssm_dtype": "float32"}
    text.pop("architectures", None)
    return {
        "architectures": [architecture.replace("CausalLM", "ConditionalGeneration")],
        "model_type": case.family,
        "dtype": text["dtype"],
        "image_token_id": VOCAB - 5,
        "video_token_id": VOCAB - 4,
        "vision_start_token_id": VOCAB - 3,
        "vision_end_token_id": VOCAB - 2,
        "language_model_only": False,
        "tie_word_embeddings": text["tie_word_embeddings"],
        "text_config": text,
        "vision_config": case.vision
        | {
            "model_type": case.family,  # as old files have it; readers must take it for the tower
            "out_hidden_size": text["hidden_size"],
            "in_channels": 3,
            "hidden_act": "gelu_pytorch_tanh",
            "deepstack_visual_indexes": [],
        },
    }
