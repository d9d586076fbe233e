"""Checkers: is the text that a model generated for a prompt right?

The text starts where the prompt ends, so with thinking on it begins inside the think block. A task's checker
sees only the answer after it.
"""

import json
import re

CALL = re.compile(r"<tool_call>\s*<function=([^>\n]+)>\s*(.*?)</function>\s*</tool_call>", re.S)
PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n(.*?)\n</parameter>", re.S)


def final_answer(text: str, thinking: bool) -> str | None:
    """The answer without its reasoning and stop token; None when the reasoning never ends."""
    text = re.split(r"<\|im_end\|>|<\|endoftext\|>", text)[0]
    if thinking:
        if "</think>" not in text:
            return None
        text = text.split("</think>", 1)[1]
    return text.strip()


def exact(answer: str, expected: str) -> bool:
    return answer == expected


def story(answer: str, expected: list[str]) -> bool:
    """Tells of both things, has at least four sentences and a proper end."""
    words = set(re.findall(r"[a-z]+", answer.lower()))
    return set(expected) <= words and answer.count(".") >= 4 and answer.endswith("The end.")


def json_value(answer: str, expected: dict) -> bool:
    try:
        value = json.loads(answer)
    except ValueError:
        return False
    return value == expected and all(type(value[key]) is type(expected[key]) or
                                     isinstance(expected[key], float) for key in expected)


def call(answer: str, expected: dict) -> bool:
    """Exactly one call, of the right tool, with the right arguments, and nothing after it."""
    found = CALL.fullmatch(answer)
    if not found or found[1] != expected["name"]:
        return False
    arguments = dict(PARAMETER.findall(found[2]))
    return arguments == {name: str(value) for name, value in expected["arguments"].items()}


CHECKS = {"exact": exact, "story": story, "json": json_value, "call": call}


def is_right(check: str, expected, text: str, thinking: bool) -> bool:
    answer = final_answer(text, thinking)
    return answer is not None and CHECKS[check](answer, expected)
