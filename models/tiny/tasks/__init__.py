"""The tiny model's tasks: an endless, seeded stream of conversations, and the held-out ones.

Every task is a function `(rng, thinking, level) -> Sample`; `level` grows from 0 to 1 during training and sets
the length of lists, facts and tool sets.
"""

import random
from collections.abc import Callable

from . import arithmetic, chat, copying, extraction, recall, stories, tools
from .base import Sample, held_out

Task = Callable[[random.Random, bool, float], Sample]

# Task: its share of the conversations at the start and at the end of training.
TASKS: dict[str, tuple[Task, float, float]] = {
    "arithmetic": (arithmetic.sample, 6, 12),
    "copying": (copying.copy_sample, 14, 5),
    "reversing": (copying.reverse_sample, 5, 4),
    "recall": (recall.sample, 14, 6),
    "far recall": (recall.far_sample, 1, 4),
    "stories": (stories.sample, 5, 4),
    "json": (extraction.sample, 10, 10),
    "tool call": (tools.call_sample, 10, 14),
    "tool result": (tools.result_sample, 3, 6),
    "no tool": (tools.plain_sample, 2, 3),
    "chat": (chat.sample, 4, 3),
}
JOINABLE = ("arithmetic", "copying", "reversing", "chat")  # short, without tools: may share a conversation
THINKING_SHARE = 0.35
SYSTEM_SHARE = 0.15
SYSTEMS = ("You are a helpful assistant.", "You are a helpful assistant.", "You are Tidemill's tiny model.",
           "Be brief.", "Answer the user.", "You are a friendly assistant who gives short answers.")


def draw(rng: random.Random, task: str, level: float, thinking_share: float = THINKING_SHARE,
         want_held_out: bool = False) -> Sample:
    """One sample on the wanted side of the held-out split."""
    while True:
        sample = TASKS[task][0](rng, rng.random() < thinking_share, level)
        if held_out(sample.key) == want_held_out:
            return sample


def conversation(rng: random.Random, level: float) -> Sample:
    """A training conversation; short tasks are often asked several times in a row."""
    weights = [start + (end - start) * level for _, start, end in TASKS.values()]
    sample = draw(rng, rng.choices(list(TASKS), weights)[0], level)
    if sample.task in JOINABLE:
        for _ in range(rng.choice((0, 0, 1, 2, 3))):
            task = sample.task if rng.random() < 0.5 else rng.choice(JOINABLE)
            before = draw(rng, task, level, thinking_share=0).messages  # history shows no thoughts anyway
            sample.messages = before + sample.messages
    if sample.messages[0]["role"] != "system" and rng.random() < SYSTEM_SHARE:
        sample.messages.insert(0, {"role": "system", "content": rng.choice(SYSTEMS)})
    return sample
