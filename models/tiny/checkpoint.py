"""Writes and reads the tiny model as a Hugging Face checkpoint folder."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import Qwen3_5MoeForCausalLM, Qwen3_5MoeTextConfig

import conversation
import vocabulary
from model import CONTEXT, Mtp

IN_F32 = ("A_log", "linear_attn.norm.weight")  # as in the family's own files; everything else is bf16


def parameter_count(model: Qwen3_5MoeForCausalLM, mtp: Mtp) -> int:
    return sum(weight.numel() for weight in [*model.parameters(), *mtp.parameters()])


def save(folder: Path, model: Qwen3_5MoeForCausalLM, mtp: Mtp, tokenizer: Tokenizer) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    named = dict(model.named_parameters()) | {f"mtp.{name}": weight for name, weight in mtp.named_parameters()}
    tensors = {name: weight.detach().to(torch.float32 if name.endswith(IN_F32) else torch.bfloat16).contiguous()
               for name, weight in named.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    config = model.config.to_dict() | {"architectures": ["Qwen3_5MoeForCausalLM"], "dtype": "bfloat16"}
    stops = config["eos_token_id"]
    _write(folder / "config.json", config)
    _write(folder / "generation_config.json", {"eos_token_id": stops, "do_sample": False})
    tokenizer.save(str(folder / "tokenizer.json"))
    added = {str(index): {"content": token.content, "special": token.special, "normalized": False,
                          "lstrip": False, "rstrip": False, "single_word": False}
             for index, token in sorted(tokenizer.get_added_tokens_decoder().items())}
    _write(folder / "tokenizer_config.json", {
        "tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": False, "add_bos_token": False, "bos_token": None,
        "eos_token": vocabulary.TURN_END, "pad_token": vocabulary.END_OF_TEXT, "unk_token": None,
        "model_max_length": CONTEXT, "clean_up_tokenization_spaces": False, "added_tokens_decoder": added})
    shutil.copy(conversation.TEMPLATE, folder / "chat_template.jinja")


def load(folder: Path) -> tuple[Qwen3_5MoeForCausalLM, Mtp, Tokenizer]:
    """The model in f32 on the stored, bf16-rounded weights."""
    config = Qwen3_5MoeTextConfig.from_pretrained(folder)
    config.dtype = "float32"
    model = Qwen3_5MoeForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)
    mtp = Mtp(model.config)
    stored = load_file(folder / "model.safetensors")
    mtp.load_state_dict({name.removeprefix("mtp."): weight.float()
                         for name, weight in stored.items() if name.startswith("mtp.")})
    return model.eval(), mtp.eval(), vocabulary.load(folder)


def _write(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
