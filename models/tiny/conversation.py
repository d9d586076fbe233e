"""From a task's sample to text and token ids, through the chat template."""

import json
import re
from pathlib import Path

from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from tasks.base import Sample

TEMPLATE = Path(__file__).with_name("chat_template.jinja")
ASSISTANT_TURN = re.compile(r"<\|im_start\|>assistant\n(.*?<\|im_end\|>)", re.S)
THINK_OPEN, THINK_EMPTY = "<think>\n", "<think>\n\n</think>\n\n"

ANSWER_WEIGHT = 1.0


def load_template():
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = _raise
    return environment.from_string(TEMPLATE.read_text())


def _raise(message: str):
    raise ValueError(message)


_template = load_template()


def full_text(sample: Sample) -> str:
    return _template.render(messages=sample.messages, tools=sample.tools)


def prompt_text(sample: Sample) -> str:
    return _template.render(messages=sample.prompt(), tools=sample.tools, add_generation_prompt=True,
                            enable_thinking=sample.thinking)


def encode(sample: Sample, tokenizer: Tokenizer, context_weight: float) -> tuple[list[int], list[float]]:
    """The ids of a whole conversation and the loss weight of each of them as a prediction.

    What the model writes itself weighs most: every assistant turn after its header, without the part of the think
    block that the prompt gives. Everything else weighs `context_weight`.
    """
    text = full_text(sample)
    answers = []
    for turn in ASSISTANT_TURN.finditer(text):
        start, end = turn.span(1)
        for given in (THINK_EMPTY, THINK_OPEN):
            if text.startswith(given, start):
                start += len(given)
                break
        answers.append((start, end))
    encoded = tokenizer.encode(text, add_special_tokens=False)
    weights = [ANSWER_WEIGHT if any(a <= start and end <= b for a, b in answers) else context_weight
               for start, end in encoded.offsets]
    return encoded.ids, weights
