"""Copying and reversing lists of words, digits and letters."""

import random

from .base import Sample, answer, code, user
from .words import DIGITS, LETTERS, NAMES, WORDS

COPY_ASKS = ["Copy: {}", "Repeat after me: {}", "Say this again: {}", "Repeat: {}", "Copy this text: {}",
             "Write exactly this: {}", "Echo: {}", "Copy the following.\n{}"]
REVERSE_ASKS = ["Reverse: {}", "Say these in reverse order: {}", "Reverse the order: {}",
                "Write these backwards: {}"]


def items(rng: random.Random, most: int) -> str:
    """A list to copy, of one kind of item."""
    count = rng.randint(2, most)
    kind = rng.random()
    if kind < 0.5:
        picked = [rng.choice(WORDS) for _ in range(count)]
    elif kind < 0.6:
        picked = [rng.choice(NAMES) for _ in range(count)]
    elif kind < 0.75:
        picked = [rng.choice(DIGITS) for _ in range(count)]
    elif kind < 0.85:
        picked = [rng.choice(LETTERS) for _ in range(count)]
    else:
        picked = [code(rng) for _ in range(max(2, count // 2))]
    return rng.choice((" ", " ", ", ")).join(picked)


def copy_sample(rng: random.Random, thinking: bool, level: float) -> Sample:
    text = items(rng, 4 + int(8 * level))
    quoted = f'"{text}"' if rng.random() < 0.2 else text
    thought = "I copy the text as it is." if thinking else ""
    return Sample("copying", f"copy {text}", [
        user(rng.choice(COPY_ASKS).format(quoted)),
        answer(text, thought),
    ], "exact", text, thinking)


def reverse_sample(rng: random.Random, thinking: bool, level: float) -> Sample:
    words = [rng.choice(WORDS if rng.random() < 0.8 else LETTERS) for _ in range(rng.randint(2, 3 + int(3 * level)))]
    text, turned = " ".join(words), " ".join(reversed(words))
    thought = f"The last one is {words[-1]}. I go back from there." if thinking else ""
    return Sample("reversing", f"reverse {text}", [
        user(rng.choice(REVERSE_ASKS).format(text)),
        answer(turned, thought),
    ], "exact", turned, thinking)
