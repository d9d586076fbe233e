"""What a task is: a sampler of short conversations, each with what its checker expects."""

import hashlib
import random
from dataclasses import dataclass, field
from typing import Any

HELD_OUT_SHARE = 16  # one key in sixteen is held out


@dataclass
class Sample:
    """One conversation whose last message is the answer to learn.

    `key` names the content apart from its phrasing: the held-out split is made on it, so a held-out sum is
    unseen in every wording. `check` names the checker (see `checks.py`) and `expected` is what it compares with.
    """

    task: str
    key: str
    messages: list[dict]
    check: str
    expected: Any
    thinking: bool
    tools: list[dict] = field(default_factory=list)

    def prompt(self) -> list[dict]:
        return self.messages[:-1]


def held_out(key: str) -> bool:
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % HELD_OUT_SHARE == 0


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def answer(text: str, thought: str = "") -> dict:
    return {"role": "assistant", "reasoning_content": thought, "content": text}


def sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def code(rng: random.Random) -> str:
    """A short value that nobody could guess: digits, letters, or both."""
    alphabet = rng.choice(("0123456789", "0123456789", "abcdefghijklmnopqrstuvwxyz",
                           "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdef0123456789"))
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(2, 5)))
