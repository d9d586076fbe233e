"""Sums, differences and products: at once, or digit by digit while thinking."""

import random

from .base import Sample, answer, user

ASKS = ["What is {}?", "Calculate {}.", "How much is {}?", "{} = ?", "Compute {}.", "{}", "What's {}?",
        "Please work out {}."]
SYMBOLS = {"+": ["+", "+", "+", "plus"], "-": ["-", "-", "-", "minus"], "*": ["*", "x", "times"]}


def add_steps(a: int, b: int) -> str:
    """The column addition of a and b, ones first."""
    steps, carry, place = [], 0, 0
    width = max(len(str(a)), len(str(b)))
    for place in range(width):
        x, y = a // 10**place % 10, b // 10**place % 10
        total = x + y + carry
        carried = f" + {carry}" if carry else ""
        carry = total // 10
        steps.append(f"{x} + {y}{carried} = {total}" + (f", write {total % 10} carry 1" if carry else ""))
    return ". ".join(steps) + "."


def subtract_steps(a: int, b: int) -> str:
    """The column subtraction of b from a (a >= b), ones first."""
    steps, borrow = [], 0
    for place in range(len(str(a))):
        x, y = a // 10**place % 10, b // 10**place % 10
        taken = f" - {borrow}" if borrow else ""
        total = x - y - borrow
        borrow = 1 if total < 0 else 0
        if borrow:
            steps.append(f"{x} - {y}{taken} needs a borrow, {total + 10}")
        else:
            steps.append(f"{x} - {y}{taken} = {total}")
    return ". ".join(steps) + "."


def sample(rng: random.Random, thinking: bool, level: float) -> Sample:
    sign = rng.choices("+-*", weights=(5, 4, 2))[0]
    if sign == "*":
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        value, steps = a * b, f"{a} times {b} is {a * b}."
    else:
        top = rng.choice((9, 20, 99, 99, 99)) if level > 0.1 else rng.choice((9, 20))
        if thinking and level > 0.3 and rng.random() < 0.3:
            top = 999
        a, b = rng.randint(0, top), rng.randint(0, top)
        if sign == "-":
            a, b = max(a, b), min(a, b)
            value, steps = a - b, subtract_steps(a, b)
        else:
            value, steps = a + b, add_steps(a, b)
    asked = f"{a} {rng.choice(SYMBOLS[sign])} {b}"
    if rng.random() < 0.1:
        asked = asked.replace(" + ", "+").replace(" - ", "-").replace(" * ", "*")
    reply = f"{a} {sign} {b} = {value}"
    return Sample("arithmetic", f"sum {a}{sign}{b}", [
        user(rng.choice(ASKS).format(asked)),
        answer(reply, steps if thinking else ""),
    ], "exact", reply, thinking)
