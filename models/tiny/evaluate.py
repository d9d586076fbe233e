"""Measures the tiny model on held-out prompts, or checks what an engine answered to them.

    python evaluate.py --make DIR               # draw heldout.jsonl, with the vocabulary of checkpoint DIR
    python evaluate.py --model DIR              # transformers, f32, greedy: writes hf_results.jsonl, prints scores
    python evaluate.py --check RESULTS.jsonl    # scores of any engine's {"id", "text"} lines

A held-out line holds the prompt as messages, as text and as token ids, the reference completion, and what the
checker expects. An engine decodes greedily from the ids, at most `MAX_NEW_TOKENS`, and reports the text it generated
(without special tokens; with thinking on, the text begins inside the think block).
"""

import argparse
import json
import math
import random
from collections import defaultdict
from pathlib import Path

import torch
from torch.nn import functional as F

import checkpoint
import conversation
import tasks
import vocabulary
from tasks.checks import is_right

HERE = Path(__file__).parent
HELD_OUT, RESULTS = HERE / "heldout.jsonl", HERE / "hf_results.jsonl"
SEED = 20_000
PER_TASK = 50
BEYOND, PER_BEYOND, BEYOND_LEVEL = "recall beyond training", 20, 3.0  # facts and distances up to three times as long
MAX_NEW_TOKENS = 192


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def make(folder: Path) -> None:
    tokenizer = vocabulary.load(folder)
    rng = random.Random(SEED)
    plan = [(name, name, 1.0, PER_TASK) for name in tasks.TASKS] + [(BEYOND, "far recall", BEYOND_LEVEL, PER_BEYOND)]
    rows = []
    for label, task, level, count in plan:
        for index in range(count):
            sample = tasks.draw(rng, task, level, want_held_out=True)
            prompt, full = conversation.prompt_text(sample), conversation.full_text(sample)
            assert full.startswith(prompt)
            rows.append({
                "id": f"{label}-{index}", "task": label, "messages": sample.prompt(), "tools": sample.tools,
                "enable_thinking": sample.thinking, "check": sample.check, "expected": sample.expected,
                "prompt": prompt, "prompt_ids": tokenizer.encode(prompt, add_special_tokens=False).ids,
                "completion": full[len(prompt):],
            })
    write_lines(HELD_OUT, rows)
    print(f"{len(rows)} prompts in {HELD_OUT.name}")


@torch.no_grad()
def generate(model, ids: list[int]) -> list[int]:
    prompt = torch.tensor([ids])
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=MAX_NEW_TOKENS,
                         do_sample=False, pad_token_id=0)
    return out[0, len(ids):].tolist()


@torch.no_grad()
def drafts_accepted(model, mtp, prompt: list[int], generated: list[int]) -> tuple[int, int]:
    """How many generated tokens, from the second on, the MTP head foretold; and how many there are."""
    ids = torch.tensor([prompt + generated])
    hidden = model.model(ids).last_hidden_state
    foretold = model.lm_head(mtp(model, hidden[:, :-1], ids[:, 1:])[:, :-1]).argmax(-1)[0]
    first = len(prompt) - 1  # the draft made after the first generated token foretells the second
    return (foretold[first:] == ids[0, len(prompt) + 1:]).sum().item(), len(generated) - 1


@torch.no_grad()
def losses(model, prompt: list[int], completion: list[int]) -> tuple[float, float]:
    """Summed negative log-likelihood of the prompt's tokens after the first, and of the completion's."""
    ids = torch.tensor(prompt + completion)
    each = F.cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction="none")
    return each[:len(prompt) - 1].sum().item(), each[len(prompt) - 1:].sum().item()


def evaluate(folder: Path, results: Path, limit: int | None) -> None:
    model, mtp, tokenizer = checkpoint.load(folder)
    answers = []
    sums = defaultdict(lambda: [0.0, 0, 0.0, 0])  # per task: prompt loss and tokens, completion loss and tokens
    accepted = drafted = 0
    for row in read_lines(HELD_OUT):
        if limit and int(row["id"].rsplit("-", 1)[1]) >= limit:
            continue
        prompt = row["prompt_ids"]
        generated = generate(model, prompt)
        text = tokenizer.decode(generated, skip_special_tokens=True)
        answers.append({"id": row["id"], "ids": generated, "text": text,
                        "correct": is_right(row["check"], row["expected"], text, row["enable_thinking"])})
        hits, tries = drafts_accepted(model, mtp, prompt, generated)
        accepted, drafted = accepted + hits, drafted + tries
        completion = tokenizer.encode(row["completion"], add_special_tokens=False).ids
        prompt_loss, completion_loss = losses(model, prompt, completion)
        for slot, value in enumerate((prompt_loss, len(prompt) - 1, completion_loss, len(completion))):
            sums[row["task"]][slot] += value
    write_lines(results, answers)
    report(answers)
    print(f"\n{'perplexity':28}  whole  answers")
    overall = [sum(column) for column in zip(*sums.values())]
    for name, (loss, count, answer_loss, answer_count) in [*sums.items(), ("all", overall)]:
        whole = math.exp((loss + answer_loss) / (count + answer_count))
        print(f"{name:28} {whole:6.3f} {math.exp(answer_loss / answer_count):8.3f}")
    print(f"\nMTP head: {accepted} of {drafted} drafts accepted ({accepted / drafted:.1%})")


def report(answers: list[dict]) -> None:
    """Accuracy per task, by our checkers, of lines with an id and a text."""
    rows = {row["id"]: row for row in read_lines(HELD_OUT)}
    right, total = defaultdict(int), defaultdict(int)
    for line in answers:
        row = rows[line["id"]]
        total[row["task"]] += 1
        right[row["task"]] += is_right(row["check"], row["expected"], line["text"], row["enable_thinking"])
    print(f"{'task':28}  right   of")
    for task, count in total.items():
        print(f"{task:28} {right[task]:6} {count:4}  {right[task] / count:6.1%}")
    print(f"{'all':28} {sum(right.values()):6} {sum(total.values()):4}  "
          f"{sum(right.values()) / sum(total.values()):6.1%}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    job = arguments.add_mutually_exclusive_group(required=True)
    job.add_argument("--make", type=Path, metavar="DIR")
    job.add_argument("--model", type=Path, metavar="DIR")
    job.add_argument("--check", type=Path, metavar="RESULTS")
    arguments.add_argument("--results", type=Path, default=RESULTS)
    arguments.add_argument("--limit", type=int, help="prompts per task, for a quick look")
    options = arguments.parse_args()
    if options.make:
        make(options.make)
    elif options.model:
        evaluate(options.model, options.results, options.limit)
    else:
        report(read_lines(options.check))


if __name__ == "__main__":
    main()
