"""The tiny model's tasks: an endless, seeded stream of conversations, and the held-out ones.

Every task is a function `(rng, thinking, level) -> Sample`; `level` grows from 0 to 1 during training and sets
the length of lists, facts and tool sets.
"""

import random
from collections.abc import Callable

from . import arithmetic, chat, copying, extraction, recall, stories, tools
from .base import Sample, held_out

Task = Callable[[random.Random, bool, float], Sample]
Mix = tuple[float, ...]  # how many conversations of each task, in the order of TASKS

TASKS: dict[str, Task] = {
    "arithmetic": arithmetic.sample,
    "copying": copying.copy_sample,
    "reversing": copying.reverse_sample,
    "recall": recall.sample,
    "far recall": recall.far_sample,
    "stories": stories.sample,
    "json": extraction.sample,
    "tool call": tools.call_sample,
    "tool result": tools.result_sample,
    "no tool": tools.plain_sample,
    "chat": chat.sample,
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
        sample = TASKS[task](rng, rng.random() < thinking_share, level)
        if held_out(sample.key) == want_held_out:
            return sample


def conversation(rng: random.Random, level: float, mix: Mix, turns_before: tuple[int, ...]) -> Sample:
    """A training conversation. Short tasks come after some other short ones: as many as one of `turns_before`."""
    sample = draw(rng, rng.choices(list(TASKS), mix)[0], level)
    if sample.task in JOINABLE:
        for _ in range(rng.choice(turns_before)):
            task = sample.task if rng.random() < 0.5 else rng.choice(JOINABLE)
            before = draw(rng, task, level, thinking_share=0).messages  # history shows no thoughts anyway
            sample.messages = before + sample.messages
    if sample.messages[0]["role"] != "system" and rng.random() < SYSTEM_SHARE:
        sample.messages.insert(0, {"role": "system", "content": rng.choice(SYSTEMS)})
    return sample
