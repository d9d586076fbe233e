"""Recall of a key's value among many, stated far back or over several turns."""

import random

from .base import Sample, answer, code, user
from .stories import filler
from .words import ANIMALS, CITIES, COLORS, NAMES, OBJECTS, PLACES

# Each kind of fact: a key, how it is stated, asked and answered.
KINDS = [
    ("code", "The code of the {k} is {v}.", "What is the code of the {k}?", "The code of the {k} is {v}."),
    ("number", "{k} has the number {v}.", "What number does {k} have?", "{k} has the number {v}."),
    ("city", "{k} lives in {v}.", "Where does {k} live?", "{k} lives in {v}."),
    ("place", "The {k} is in the {v}.", "Where is the {k}?", "The {k} is in the {v}."),
    ("color", "The {k} is {v}.", "What color is the {k}?", "The {k} is {v}."),
    ("plain", "{k} = {v}", "{k} = ?", "{k} = {v}"),
]
OPENERS = ["Remember this.", "Here are some facts.", "Keep these facts in mind.", "Read this.", "Notes:"]
NOTED = ["Noted.", "I will remember that.", "Got it."]


def keys_for(rng: random.Random, kind: str, count: int) -> list[str]:
    if kind in ("number", "city"):
        return rng.sample(NAMES, min(count, len(NAMES)))
    if kind == "plain":
        pool = NAMES + OBJECTS if rng.random() < 0.6 else [code(rng) for _ in range(4 * count)]
        return rng.sample(sorted(set(pool)), count)
    if kind == "code" and rng.random() < 0.5:
        return rng.sample([f"{c} {o}" for c in COLORS for o in OBJECTS], count)
    return rng.sample(OBJECTS + ANIMALS, count)


def value_for(rng: random.Random, kind: str) -> str:
    pools = {"city": CITIES, "place": PLACES, "color": COLORS}
    return rng.choice(pools[kind]) if kind in pools else code(rng)


def facts(rng: random.Random, count: int) -> list[tuple[str, str, str, str]]:
    """`count` facts of one kind: (key=value, statement, question, reply)."""
    kind, stated, asked, replied = rng.choice(KINDS)
    return [(f"{k}={v}", stated.format(k=k, v=v), asked.format(k=k), replied.format(k=k, v=v))
            for k in keys_for(rng, kind, count) for v in [value_for(rng, kind)]]


def sample(rng: random.Random, thinking: bool, level: float, far: bool = False) -> Sample:
    """`far` puts a long filler between the facts and the questions; several questions follow each other."""
    known = facts(rng, rng.randint(2, 4 + int((16 if far else 8) * level)))
    statements = [fact[1] for fact in known]
    breaks = "\n" if rng.random() < 0.4 or " = " in statements[0] else " "
    blocks = [breaks.join(statements)]
    if far:
        blocks.append(filler(rng, rng.randint(10, 10 + int(110 * level))))
        if rng.random() < 0.3:
            blocks.insert(0, filler(rng, rng.randint(3, 20)))
    text = "\n\n".join(blocks)
    asked = rng.sample(known, min(len(known), rng.randint(1, 6 if far else 3)))

    opener = rng.choice(OPENERS)
    messages = [user(f"{opener}\n{text}")]
    if rng.random() < 0.5:
        messages.append(answer(rng.choice(NOTED)))
        messages.append(user(asked[0][2]))
    else:
        messages[0]["content"] += f"\n\n{asked[0][2]}"
    for earlier, later in zip(asked, asked[1:]):
        messages += [answer(earlier[3]), user(later[2])]
    pair, _, _, reply = asked[-1]
    messages.append(answer(reply, "I look it up in the text above." if thinking else ""))
    return Sample("far recall" if far else "recall", f"recall {pair}", messages, "exact", reply, thinking)


def far_sample(rng: random.Random, thinking: bool, level: float) -> Sample:
    return sample(rng, thinking, level, far=True)
