#!/usr/bin/env python3
"""Makes the tiny checkpoints and their expected outputs with the reference library, in F64.

    python scripts/make_goldens.py                       # all committed goldens, into the model crate
    python scripts/make_goldens.py --only moe_text --out /some/dir
    python scripts/make_goldens.py --peers --out /some/dir    # the larger, uncommitted ones

What each file holds is described in scripts/README.md. Needs the versions in requirements.txt; the
weights are a function of tensor name and seed, so a rerun rewrites the same checkpoint.
"""

import argparse
import copy
import json
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode
from transformers import DynamicCache
from transformers.modeling_layers import MtpLayer

import tiny_models
from tiny_models import CASES, FAMILIES, config_json, make_weights

PROMPT_TOKENS = 150
GREEDY_TOKENS = 16
SHORT_TOKENS = 6
DRAFT_TOKENS = 4
MTP_ROWS = 40  # of the 149 teacher-forced rows, the last ones are stored
MROPE_TOKENS = 24
HIDDEN_TOKENS = [0, 1, 2, 3, 63, 64, 65, 149]
ROUTER_GAP = 2e-5  # several times what F32 rounding moves a router probability
TOP1_MARGIN = 0.02  # several tens of times what it moves a logit
F32_NOISE = 1e-4  # largest logit difference of the library in F32: a fifth of what we allow ourselves
SHARD_NAME = "model-{:05d}-of-{:05d}.safetensors"


class Wide(TorchFunctionMode):
    """Turns every F32 that the library asks for by name into F64, so that no rounding is left."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        widen = lambda value: torch.float64 if value is torch.float32 else value  # noqa: E731
        if function is torch.Tensor.float:
            function = torch.Tensor.double
        return function(*map(widen, args), **{key: widen(value) for key, value in (kwargs or {}).items()})


@contextmanager
def exact():
    """Computes in F64 throughout."""
    torch.set_default_dtype(torch.float64)
    try:
        with Wide():
            yield
    finally:
        torch.set_default_dtype(torch.float32)


class Reference:
    """The library's model with our weights, watched: hidden states and router choices are recorded."""

    def __init__(self, case, rope_parameters=None):
        config_class, model_class = (getattr(transformers, name) for name in FAMILIES[case.family])
        text = dict(case.text, **({"rope_parameters": rope_parameters} if rope_parameters else {}))
        self.config = config_class(**copy.deepcopy(text))
        self.config._attn_implementation = "eager"
        self.config._experts_implementation = "eager"
        self.model = model_class(self.config).eval()
        self.mtp = self._mtp_layer() if case.mtp else None
        self.hidden, self.routed, self.router_gap = [], [], float("inf")
        trunk = self.model.model
        trunk.embed_tokens.register_forward_hook(lambda _, __, out: self.hidden.append(out[0]))
        for layer in [*trunk.layers, trunk.norm]:
            layer.register_forward_hook(lambda _, __, out: self.hidden.append(out[0]))
        for module in [*self.model.modules(), *(self.mtp.modules() if self.mtp else [])]:
            if type(module).__name__.endswith("TopKRouter"):
                module.register_forward_hook(self._watch_router)

    def _mtp_layer(self):
        """The library's generic draft layer around this family's attention decoder layer."""
        config = copy.deepcopy(self.config)
        config.layer_types, config.num_hidden_layers = ["full_attention"], 1
        trunk = self.model.model
        layer = MtpLayer(config, type(trunk.layers[0]), type(trunk.norm), layer_idx=0)
        self.mtp_config = config
        return layer.eval()

    def _watch_router(self, module, _, out):
        logits, _, chosen = out
        ranked = torch.softmax(logits, -1).sort(-1, descending=True).values
        gap = (ranked[:, module.top_k - 1] - ranked[:, module.top_k]).min().item()
        self.router_gap = min(self.router_gap, gap)
        self.routed.append(chosen)

    def parameters(self):
        """Every parameter by its name in a flat checkpoint."""
        named = dict(self.model.named_parameters())
        if self.model.config.tie_word_embeddings:
            named["lm_head.weight"] = self.model.lm_head.weight
        if self.mtp:
            for name, value in self.mtp.named_parameters():
                for ours, theirs in [
                    ("mtp.pre_fc_norm_embedding", "enorm"),
                    ("mtp.pre_fc_norm_hidden", "hnorm"),
                    ("mtp.fc", "eh_proj"),
                    ("mtp.norm", "post_norm"),
                    ("mtp.layers.0", "mtp_block"),
                ]:
                    if name.startswith(theirs + "."):
                        named[ours + name.removeprefix(theirs)] = value
        return named

    def load(self, parameters):
        with torch.no_grad():
            for name, value in self.parameters().items():
                value.copy_(parameters[name])

    def run(self, tokens, cache=None, position_ids=None):
        """Logits [T, V] of new tokens; `self.final` keeps what the head consumed."""
        self.hidden, self.routed = [], []
        out = self.model(
            input_ids=torch.tensor([tokens]), past_key_values=cache, use_cache=cache is not None, position_ids=position_ids
        )
        self.final = self.hidden[-1]
        return out.logits[0]

    def greedy(self, logits, cache, count):
        """Continues from `logits` with the cache: chosen tokens, logits after each, smallest margin."""
        tokens, rows, margin = [], [], float("inf")
        for _ in range(count):
            token, gap = top1(logits)
            margin = min(margin, gap)
            tokens.append(token)
            logits = self.run([token], cache)[-1]
            rows.append(logits)
        return tokens, torch.stack(rows), margin

    def run_mtp(self, hidden, tokens, first_position, cache):
        """Draft logits and hidden states for pairs (hidden of t, token t+1)."""
        trunk = self.model.model
        count = len(tokens)
        embedded = trunk.embed_tokens(torch.tensor([tokens]))
        positions = torch.arange(first_position, first_position + count)[None]
        past = cache.get_seq_length()
        mask = torch.full((count, past + count), float("-inf")).triu(past + 1)[None, None]
        out = self.mtp(
            inputs_embeds=embedded,
            previous_hidden_state=hidden[None],
            position_embeddings=trunk.rotary_emb(embedded, positions),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
        )
        return self.model.lm_head(out)[0], out[0]


def top1(logits):
    values, indices = logits.topk(2)
    return indices[0].item(), (values[0] - values[1]).item()


def mrope_positions():
    """Text, then a 3 x 4 image, then text: three axes that differ, as an image would make them."""
    grid = [(4, 4 + row, 4 + column) for row in range(3) for column in range(4)]
    text = [(i, i, i) for i in range(4)]
    tail = [(8 + i, 8 + i, 8 + i) for i in range(MROPE_TOKENS - len(text) - len(grid))]
    return torch.tensor([*text, *grid, *tail]).T.contiguous()


@torch.no_grad()
def expected_outputs(case, reference, prompt):
    """All golden tensors of one checkpoint, and the facts for golden.json."""
    cache = DynamicCache(config=reference.config)
    logits = reference.run(prompt, cache)
    final = reference.final
    rows = torch.tensor([row for row in HIDDEN_TOKENS if row < len(prompt)])
    golden = {
        "logits": logits,
        "hidden": torch.stack([hidden[rows] for hidden in reference.hidden[:-1]]),
        "final_hidden": final[rows],
    }
    if reference.routed:
        golden["routed_experts"] = torch.stack(reference.routed).to(torch.uint8)
    linear = [i for i, kind in enumerate(reference.config.layer_types) if kind == "linear_attention"][-1]
    state = cache.layers[linear]
    first = lambda value: value[0] if isinstance(value, (list, tuple, dict)) else value  # noqa: E731
    golden["recurrent_state"] = first(state.recurrent_states)[0].clone()
    golden["conv_state"] = first(state.conv_states)[0][:, -3:].clone()

    tokens, golden["greedy_logits"], greedy_margin = reference.greedy(logits[-1], cache, GREEDY_TOKENS)
    golden["greedy_tokens"] = torch.tensor(tokens, dtype=torch.int32)

    short_cache = DynamicCache(config=reference.config)
    short = reference.run(prompt[:2], short_cache)
    short_tokens, steps, short_margin = reference.greedy(short[-1], short_cache, SHORT_TOKENS)
    golden["short_logits"] = torch.cat([short, steps])
    golden["short_tokens"] = torch.tensor(short_tokens, dtype=torch.int32)

    facts = {
        "state_layer": linear,
        "hidden_tokens": rows.tolist(),
        "greedy_margin": greedy_margin,
        "short_margin": short_margin,
    }
    margins = [greedy_margin, short_margin]

    if case.mtp:
        draft_cache = DynamicCache(config=reference.mtp_config)
        drafted, _ = reference.run_mtp(final[:-1], prompt[1:], 0, draft_cache)
        golden["mtp_logits"] = drafted[-MTP_ROWS:]
        facts["mtp_first_row"] = len(drafted) - len(golden["mtp_logits"])
        hidden, token = final[-1:], tokens[0]
        drafts, draft_rows, draft_margin = [], [], float("inf")
        for step in range(DRAFT_TOKENS):
            row, hidden = reference.run_mtp(hidden, [token], len(prompt) - 1 + step, draft_cache)
            token, gap = top1(row[0])
            draft_margin = min(draft_margin, gap)
            drafts.append(token)
            draft_rows.append(row[0])
        golden["mtp_draft_tokens"] = torch.tensor(drafts, dtype=torch.int32)
        golden["mtp_draft_logits"] = torch.stack(draft_rows)
        facts["mtp_draft_margin"] = draft_margin
        margins.append(draft_margin)

    if case.mrope:
        positions = mrope_positions()
        golden["mrope_positions"] = positions.to(torch.int32)
        golden["mrope_logits"] = reference.run(prompt[:MROPE_TOKENS], position_ids=positions[:, None])

    if reference.router_gap != float("inf"):
        facts["router_gap"] = reference.router_gap
    facts["logits_std"] = logits.std().item()
    facts["cached_against_full"] = cached_against_full(reference, prompt, tokens, golden["greedy_logits"])
    accepted = min(margins) >= TOP1_MARGIN and reference.router_gap >= ROUTER_GAP
    return golden, facts, accepted


def cached_against_full(reference, prompt, tokens, cached):
    """How far the library itself is apart between decoding with a cache and one full forward."""
    full = reference.run(prompt + tokens)[len(prompt) :]
    return (full - cached).abs().max().item()


def vision_shapes(case):
    """Parameters of the composite class's vision tower, which text goldens only have to skip."""
    if not case.composite:
        return {}
    prefix = FAMILIES[case.family][0].removesuffix("TextConfig")
    config = getattr(transformers, prefix + "VisionConfig")(**case.vision, out_hidden_size=case.text["hidden_size"])
    tower = getattr(transformers.models, case.family)
    tower = getattr(tower, prefix + "VisionModel")(config)
    return {"model.visual." + name: value.shape for name, value in tower.named_parameters()}


def write_checkpoint(case, directory, config, tensors):
    """config.json and the safetensors files, sharded with an index if the case says so."""
    write_json(directory / "config.json", config)
    names = sorted(tensors)
    if case.shards == 1:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        return
    size = lambda name: tensors[name].nbytes  # noqa: E731
    total, held, shards = sum(map(size, names)), 0, [[] for _ in range(case.shards)]
    for name in names:
        shards[min(held * case.shards // total, case.shards - 1)].append(name)
        held += size(name)
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = SHARD_NAME.format(number, case.shards)
        save_file({name: tensors[name] for name in shard}, directory / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(directory / "model.safetensors.index.json", index)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def save_golden(directory, golden, facts, prompt):
    """golden.safetensors (in F32), golden.json and prompt.json."""
    narrow = {
        name: (value.to(torch.float32) if value.is_floating_point() else value).contiguous()
        for name, value in golden.items()
    }
    save_file(narrow, directory / "golden.safetensors")
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__}
    write_json(directory / "golden.json", facts | {"versions": versions, "prompt": "prompt.json"})
    (directory / "prompt.json").write_text(json.dumps(prompt) + "\n")
    for file in directory.iterdir():
        file.chmod(0o644)  # the safetensors writer keeps its files private


@torch.no_grad()
def library_in_f32(case, parameters, prompt, logits):
    """How far the library's own F32 run is from the golden."""
    reference = Reference(case)
    reference.load(parameters)
    return (reference.run(prompt) - logits).abs().max().item()


@torch.no_grad()
def reloaded_in_f32(case, directory, prompt, logits):
    """The same for the files as the library's loader takes them: they mean what we think they mean."""
    if case.fp8:
        return None  # the library's CPU loader does not take FP8
    name = FAMILIES[case.family][1]
    if case.composite:
        name = name.replace("CausalLM", "ConditionalGeneration")
    model, info = getattr(transformers, name).from_pretrained(directory, dtype=torch.float32, output_loading_info=True)
    problems = {key: value for key, value in info.items() if value and key != "unexpected_keys"}
    unexpected = [key for key in info["unexpected_keys"] if not key.startswith("mtp.")]
    if problems or unexpected:
        raise SystemExit(f"{case.name}: the library does not take the files back: {problems} {unexpected}")
    got = model.eval()(input_ids=torch.tensor([prompt]), use_cache=False).logits[0]
    return (got - logits).abs().max().item()


def make(case, out):
    with exact():
        reference = Reference(case)
    shapes = {name: value.shape for name, value in reference.parameters().items()} | vision_shapes(case)
    for seed in range(case.first_seed, case.first_seed + 100):
        generator = torch.Generator().manual_seed(seed)
        words = case.text["vocab_size"] - tiny_models.SPECIAL_TOKENS
        prompt = torch.randint(words, (PROMPT_TOKENS,), generator=generator).tolist()
        parameters, tensors = make_weights(case, shapes, seed)
        reference.load(parameters)
        reference.router_gap = float("inf")
        with exact():
            golden, facts, accepted = expected_outputs(case, reference, prompt)
        facts["library_f32_difference"] = library_in_f32(case, parameters, prompt, golden["logits"])
        if accepted and facts["library_f32_difference"] <= F32_NOISE:
            break
        print(f"{case.name}: seed {seed} has a near-tie or is noisy: {shown(facts)}", file=sys.stderr)
    else:
        raise SystemExit(f"{case.name}: no seed without near-ties and noise")

    config = config_json(case, json.loads(reference.config.to_json_string(use_diff=False)))
    if case.yarn:
        with exact(), torch.no_grad():
            stretched = Reference(case, case.yarn)
            stretched.load(parameters)
            golden["yarn_logits"] = stretched.run(prompt)
        facts["yarn_moves_logits_by"] = (golden["yarn_logits"] - golden["logits"]).abs().max().item()

    directory = out / case.name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    write_checkpoint(case, directory, config, tensors)
    if case.yarn:
        longer = int(case.yarn["factor"] * case.yarn["original_max_position_embeddings"])
        changed = {"rope_parameters": case.yarn, "max_position_embeddings": longer}
        write_json(directory / "config_yarn.json", config | changed)
    facts["library_f32_reload_difference"] = reloaded_in_f32(case, directory, prompt, golden["logits"])
    save_golden(directory, golden, {"note": case.note, "seed": seed} | facts, prompt)
    size = sum(file.stat().st_size for file in directory.iterdir())
    print(f"{case.name}: seed {seed}, {size / 1e6:.2f} MB, {shown(facts)}")


def shown(facts):
    return ", ".join(f"{key} {value:.2g}" for key, value in facts.items() if isinstance(value, float))


def main():
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=root / "crates/model/tests/goldens")
    parser.add_argument("--only", action="append", choices=[case.name for case in CASES])
    parser.add_argument("--peers", action="store_true", help="make the larger cases, which are not committed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for case in CASES:
        wanted = case.name in arguments.only if arguments.only else case.committed != arguments.peers
        if wanted:
            make(case, arguments.out)


if __name__ == "__main__":
    main()
