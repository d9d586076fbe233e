"""Trains the tiny model from scratch: vocabulary, data, model, MTP head. See README.md.

    python train.py --stage 1 --steps 1000 --out one
    python train.py --stage 2 --steps 420 --start one --out two
    python train.py --stage 3 --steps 440 --start two --out three
    python train.py --stage 4 --steps 294 --workers 1 --start three --out four
    python train.py --stage 5 --minutes 14 --start four --out tiny     # as many steps as fit; or --steps N

The same seed, steps, workers and library versions give the same data and schedule. Each worker is a process with
one thread and its own half of the batch: on a busy machine that is twice as fast as one process with two threads.
A checkpoint is written every few minutes, and the finished one, rounded to bf16, at the end.
"""

import argparse
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn import functional as F
from transformers import Qwen3_5MoeForCausalLM

import checkpoint
import conversation
import tasks
import vocabulary
from curriculum import FULL, STAGES, Stage
from model import Mtp, configuration, initialise
from optimizer import Muon

VOCABULARY_TEXTS = 12_000
BATCH_TOKENS = 2048  # for each worker
POOL = 128  # conversations sorted by length together
MUON_RATE, ADAM_RATE = 0.02, 3e-3
MTP_LOSS = 0.2
BALANCE_LOSS = 0.01
CHECKPOINT_SECONDS = 300


class Schedule:
    """The learning rate as a share of its top value, by the share of the steps or of the minutes that is over."""

    def __init__(self, stage: Stage, steps: int | None, minutes: float | None):
        self.stage, self.steps, self.minutes, self.start = stage, steps, minutes, time.monotonic()

    def progress(self, step: int) -> float:
        """From 0 to 1; by the first worker's clock where there is a time budget."""
        if self.steps is not None:
            return step / self.steps
        elapsed = torch.tensor((time.monotonic() - self.start) / (60 * self.minutes))
        dist.broadcast(elapsed, src=0)
        return elapsed.item()

    def factor(self, step: int, progress: float) -> float:
        warm = min(1.0, (step + 1) / self.stage.warmup)
        stable = self.stage.stable_share
        return warm if progress <= stable else warm * (1 - progress) / (1 - stable)


def batches(tokenizer, stage: Stage, seed: int) -> Iterator[list[tuple[list[int], list[float]]]]:
    """Endless batches of conversations of similar length."""
    rng = random.Random(seed)
    count = 0
    while True:
        pool = [tasks.conversation(rng, stage.level(count), stage.mix(count), stage.turns_before)
                for _ in range(POOL)]
        pool = [conversation.encode(sample, tokenizer, stage.context_weight) for sample in pool]
        pool.sort(key=lambda item: len(item[0]))
        cut, batch = [], []
        for item in pool:
            if batch and len(item[0]) * (len(batch) + 1) > BATCH_TOKENS:
                cut.append(batch)
                batch = []
            batch.append(item)
        cut.append(batch)
        rng.shuffle(cut)
        for batch in cut:
            count += 1
            yield batch


def pad(batch: list[tuple[list[int], list[float]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and weights. The model is causal, so padding behind a conversation cannot touch it."""
    width = max(len(ids) for ids, _ in batch)
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    weights = torch.zeros(len(batch), width)
    for row, (row_ids, row_weights) in enumerate(batch):
        ids[row, :len(row_ids)] = torch.tensor(row_ids)
        weights[row, :len(row_weights)] = torch.tensor(row_weights)
    return ids, weights


def weighted_loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    losses = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return (losses * weights.flatten()).sum() / weights.sum()


class RouterLoads:
    """Collects the routers' logits of a forward pass, for the loss that keeps the experts in balance."""

    def __init__(self, model: Qwen3_5MoeForCausalLM, mtp: Mtp):
        self.logits: list[torch.Tensor] = []
        self.top_k = model.config.num_experts_per_tok
        for layer in [*model.model.layers, *mtp.layers]:
            layer.mlp.gate.register_forward_hook(lambda _module, _inputs, out: self.logits.append(out[0]))

    def loss(self) -> torch.Tensor:
        """Experts x sum over them of (share of tokens) x (mean probability); 1 when balanced. Mean over layers."""
        total = 0.0
        for logits in self.logits:
            chances = logits.float().softmax(-1)
            chosen = chances.topk(self.top_k, dim=-1).indices
            share = F.one_hot(chosen, chances.shape[-1]).float().mean(dim=(0, 1))
            total = total + chances.shape[-1] * (share * chances.mean(0)).sum()
        mean = total / len(self.logits)
        self.logits.clear()
        return mean


def average_gradients(weights: list[torch.nn.Parameter]) -> None:
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    joined = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(joined)
    joined /= dist.get_world_size()
    for gradient, part in zip(gradients, joined.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(part.view_as(gradient))


def optimisers(model: Qwen3_5MoeForCausalLM, mtp: Mtp) -> list[torch.optim.Optimizer]:
    muon, adam = [], []
    for name, weight in [*model.named_parameters(), *mtp.named_parameters()]:
        square = weight.ndim in (2, 3) and min(weight.shape[-2:]) >= 64 and "embed" not in name
        (muon if square else adam).append(weight)
    found = [Muon(muon, lr=MUON_RATE, weight_decay=0.01), torch.optim.AdamW(adam, lr=ADAM_RATE, betas=(0.9, 0.95),
                                                                         weight_decay=0.0)]
    for optimiser in found:
        for group in optimiser.param_groups:
            group["top_lr"] = group["lr"]
    return found


def learn(model: Qwen3_5MoeForCausalLM, mtp: Mtp, tokenizer, schedule: Schedule, seed: int, save) -> dict:
    """The training loop of one worker. Returns what the run took; tokens are estimated from this worker's."""
    steppers = optimisers(model, mtp)
    every_weight = [*model.parameters(), *mtp.parameters()]
    loads = RouterLoads(model, mtp)
    step, seen, started = 0, 0, time.monotonic()
    saved = started
    recent: list[tuple[float, float, float]] = []
    for batch in batches(tokenizer, schedule.stage, seed + dist.get_rank()):
        progress = schedule.progress(step)
        if progress >= 1:
            break
        factor = schedule.factor(step, progress)
        ids, weights = pad(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = model.model(ids).last_hidden_state
            main = weighted_loss(model.lm_head(hidden[:, :-1]), ids[:, 1:], weights[:, 1:])
            draft = torch.zeros(())
            if step >= schedule.stage.mtp_from:
                drafted = mtp(model, hidden[:, :-1], ids[:, 1:])
                draft = weighted_loss(model.lm_head(drafted[:, :-1]), ids[:, 2:], weights[:, 2:])
            balance = loads.loss()
        (main + MTP_LOSS * draft + BALANCE_LOSS * balance).backward()
        average_gradients(every_weight)
        torch.nn.utils.clip_grad_norm_(every_weight, 1.0)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = group["top_lr"] * factor
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        step += 1
        seen += dist.get_world_size() * sum(len(row) for row, _ in batch)
        recent.append((main.item(), draft.item(), balance.item()))
        if step % 20 == 0 and dist.get_rank() == 0:
            main_mean, draft_mean, balance_mean = (sum(column) / len(recent) for column in zip(*recent))
            recent.clear()
            seconds = time.monotonic() - started
            print(f"step {step} loss {main_mean:.4f} mtp {draft_mean:.4f} balance {balance_mean:.3f} "
                  f"rate {factor:.3f} tokens {seen} seconds {seconds:.0f}", flush=True)
        if dist.get_rank() == 0 and time.monotonic() - saved > CHECKPOINT_SECONDS:
            save()
            saved = time.monotonic()
            print(f"checkpoint at step {step}", flush=True)
    return {"steps": step, "tokens": seen, "seconds": round(time.monotonic() - started)}


def work(rank: int, options: argparse.Namespace, meeting_point: str) -> None:
    """One worker's whole run: every worker builds the same vocabulary and model; the first one writes."""
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    dist.init_process_group("gloo", init_method=f"file://{meeting_point}", rank=rank, world_size=options.workers)

    rng = random.Random(options.seed)
    if options.start:
        model, mtp, tokenizer = checkpoint.load(options.start)
    else:
        samples = (tasks.conversation(rng, 1.0, FULL, STAGES[1].turns_before) for _ in range(VOCABULARY_TEXTS))
        tokenizer = vocabulary.train(conversation.full_text(sample) for sample in samples)
        config = configuration(tokenizer.get_vocab_size(), tokenizer.token_to_id(vocabulary.END_OF_TEXT),
                               tokenizer.token_to_id(vocabulary.TURN_END))
        model = Qwen3_5MoeForCausalLM(config)
        mtp = Mtp(model.config)
        initialise(model, mtp)
    model.train()
    mtp.train()

    def save_intermediate() -> None:
        if options.intermediate:
            partial = options.intermediate.with_name(options.intermediate.name + ".new")
            checkpoint.save(partial, model, mtp, tokenizer)
            shutil.rmtree(options.intermediate, ignore_errors=True)
            partial.rename(options.intermediate)

    schedule = Schedule(STAGES[options.stage], options.steps, options.minutes)
    taken = learn(model, mtp, tokenizer, schedule, 1000 * options.seed + 100 * (options.stage - 1), save_intermediate)
    if rank == 0:
        checkpoint.save(options.out, model, mtp, tokenizer)
        taken |= {"stage": options.stage, "seed": options.seed, "workers": options.workers, "torch": torch.__version__,
                  "parameters": checkpoint.parameter_count(model, mtp)}
        (options.out / "training.json").write_text(json.dumps(taken, indent=1) + "\n")
        print(json.dumps(taken))
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    length = arguments.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int)
    length.add_argument("--minutes", type=float)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--stage", type=int, choices=STAGES, default=1)
    arguments.add_argument("--start", type=Path, help="the checkpoint of the stage before")
    arguments.add_argument("--intermediate", type=Path, help="where checkpoints go while training")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--workers", type=int, default=2)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, (options, str(Path(folder) / "meeting")), nprocs=options.workers)


if __name__ == "__main__":
    main()
