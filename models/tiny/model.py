"""The tiny model: transformers' own Qwen3.5-MoE classes, and the MTP head built of its decoder layer."""

import math

import torch
from torch import nn
from transformers import Qwen3_5MoeForCausalLM, Qwen3_5MoeTextConfig
from transformers.models.qwen3_5_moe.modeling_qwen3_5_moe import Qwen3_5MoeDecoderLayer, Qwen3_5MoeRMSNorm

CONTEXT = 4096


def configuration(vocab_size: int, end_of_text: int, turn_end: int) -> Qwen3_5MoeTextConfig:
    """Sizes: every matrix's input is a multiple of 256, and value heads outnumber key heads, as in the family."""
    return Qwen3_5MoeTextConfig(
        vocab_size=vocab_size,
        hidden_size=256,
        num_hidden_layers=4,  # three delta layers and one attention layer
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=64,
        linear_value_head_dim=64,
        linear_conv_kernel_dim=4,
        num_experts=6,
        num_experts_per_tok=2,
        moe_intermediate_size=256,
        shared_expert_intermediate_size=256,
        max_position_embeddings=CONTEXT,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000_000.0, "partial_rotary_factor": 0.25,
                         "mrope_section": [3, 3, 2], "mrope_interleaved": True},
        tie_word_embeddings=True,
        eos_token_id=[turn_end, end_of_text],
        pad_token_id=None,
        bos_token_id=None,
        mtp_num_hidden_layers=1,
        mtp_use_dedicated_embeddings=False,
        dtype="float32",
    )


class Mtp(nn.Module):
    """Predicts the token after the next one, from the final hidden state and the next token's embedding."""

    def __init__(self, config: Qwen3_5MoeTextConfig):
        super().__init__()
        width, eps = config.hidden_size, config.rms_norm_eps
        attention_layer = config.layer_types.index("full_attention")
        self.fc = nn.Linear(2 * width, width, bias=False)
        self.pre_fc_norm_embedding = Qwen3_5MoeRMSNorm(width, eps=eps)
        self.pre_fc_norm_hidden = Qwen3_5MoeRMSNorm(width, eps=eps)
        self.layers = nn.ModuleList([Qwen3_5MoeDecoderLayer(config, attention_layer)])
        self.norm = Qwen3_5MoeRMSNorm(width, eps=eps)

    def forward(self, model: Qwen3_5MoeForCausalLM, hidden: torch.Tensor, next_ids: torch.Tensor) -> torch.Tensor:
        """hidden: [rows, tokens, width] after the final norm; next_ids: the token after each position."""
        embedded = self.pre_fc_norm_embedding(model.model.embed_tokens(next_ids))
        x = self.fc(torch.cat([embedded, self.pre_fc_norm_hidden(hidden)], dim=-1))
        positions = torch.arange(x.shape[1]).expand(3, x.shape[0], -1)
        for layer in self.layers:
            x = layer(x, position_embeddings=model.model.rotary_emb(x, positions))
        return self.norm(x)


@torch.no_grad()
def _long_memory(mixer: nn.Module) -> None:
    """Decays that begin between nearly none and a few tokens; the library's own begin at almost no memory."""
    step = torch.empty_like(mixer.dt_bias).uniform_(math.log(0.001), math.log(0.1)).exp()
    mixer.dt_bias.copy_(step + torch.log(-torch.expm1(-step)))  # the inverse of softplus
    mixer.A_log.uniform_(1.0, 16.0).log_()


def initialise(model: Qwen3_5MoeForCausalLM, mtp: Mtp) -> None:
    """Normal weights scaled by fan-in, small output projections, embeddings small enough for a tied head."""
    for layer in model.model.layers:
        if layer.block_type == "linear_attention":
            _long_memory(layer.linear_attn)
    for name, weight in [*model.named_parameters(), *mtp.named_parameters()]:
        if "embed_tokens" in name:
            nn.init.normal_(weight, std=0.05)
        elif "mlp.gate.weight" in name or "shared_expert_gate" in name:
            nn.init.normal_(weight, std=0.02)
        elif "conv1d" in name:
            nn.init.uniform_(weight, -0.5, 0.5)
        elif weight.ndim >= 2:
            scale = 0.3 if "o_proj" in name or "out_proj" in name or "down_proj" in name else 0.8
            nn.init.normal_(weight, std=scale * weight.shape[-1] ** -0.5)
