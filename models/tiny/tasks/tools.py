"""Calling the right one of several tools with the right arguments, and using its result."""

import json
import random

from . import arithmetic, chat
from .base import Sample, answer, user
from .toolbox import TOOLS, Tool


class Offered:
    """A tool as one conversation offers it: under one of its names, parameters too."""

    def __init__(self, tool: Tool, rng: random.Random):
        self.tool = tool
        self.name = rng.choice(tool.names)
        self.params = {key: rng.choice(param.names) for key, param in tool.params.items()}
        described = rng.random() < 0.3
        required = set.intersection(*({k for k in tool.params if f"{{{k}}}" in ask} for ask in tool.asks))
        properties = {}
        for key, name in self.params.items():
            param = tool.params[key]
            properties[name] = param.schema | ({"description": param.text} if described else {})
        self.spec = {"type": "function", "function": {
            "name": self.name, "description": tool.text,
            "parameters": {"type": "object", "properties": properties,
                           "required": [self.params[key] for key in tool.params if key in required]}}}

    def use(self, rng: random.Random) -> tuple[str, dict, dict]:
        """A request in words, the call it needs, and the words that its arguments had."""
        ask = rng.choice(self.tool.asks)
        values = {key: self.tool.params[key].draw(rng) for key in self.tool.params if f"{{{key}}}" in ask}
        flags = self.tool.flags or {}
        shown = {key: flags[key][value] if key in flags else value for key, value in values.items()}
        arguments = {self.params[key]: value for key, value in values.items()}
        return ask.format(**shown), {"name": self.name, "arguments": arguments}, shown

    def result(self, rng: random.Random, shown: dict) -> tuple[str, str]:
        """What the tool returns, and the reply that uses it."""
        values = {key: draw(rng) for key, draw in self.tool.result.items()}
        return json.dumps(values), self.tool.reply.format(**shown, **values)


def offer(rng: random.Random, level: float) -> list[Offered]:
    return [Offered(tool, rng) for tool in rng.sample(TOOLS, rng.randint(1, 2 + int(3 * level)))]


def call_message(call: dict, thought: str = "") -> dict:
    return answer("", thought) | {"tool_calls": [{"type": "function", "function": call}]}


def exchange(rng: random.Random, offered: list[Offered]) -> list[dict]:
    """A finished earlier exchange with one of the tools."""
    tool = rng.choice(offered)
    asked, call, shown = tool.use(rng)
    result, reply = tool.result(rng, shown)
    return [user(asked), call_message(call), {"role": "tool", "content": result}, answer(reply)]


def call_sample(rng: random.Random, thinking: bool, level: float) -> Sample:
    """The call itself. Earlier exchanges may come before."""
    offered = offer(rng, level)
    tool = rng.choice(offered)
    asked, call, _ = tool.use(rng)
    messages = [m for _ in range(rng.choice((0, 1, 1, 2, 3))) for m in exchange(rng, offered)]
    thought = f"I use {call['name']}." if thinking else ""
    messages += [user(asked), call_message(call, thought)]
    return Sample("tool call", f"call {asked}", messages, "call", call, thinking, [o.spec for o in offered])


def result_sample(rng: random.Random, thinking: bool, level: float) -> Sample:
    """The answer after the tool's result."""
    offered = offer(rng, level)
    tool = rng.choice(offered)
    asked, call, shown = tool.use(rng)
    result, reply = tool.result(rng, shown)
    messages = [m for _ in range(rng.choice((0, 1, 2))) for m in exchange(rng, offered)]
    messages += [user(asked), call_message(call, f"I use {call['name']}." if thinking else ""),
                 {"role": "tool", "content": result}, answer(reply, "I have the result." if thinking else "")]
    return Sample("tool result", f"result {asked} {result}", messages, "exact", reply, thinking, [o.spec for o in offered])


def plain_sample(rng: random.Random, thinking: bool, level: float) -> Sample:
    """A question that needs none of the tools."""
    other = rng.choice((arithmetic.sample, chat.sample))(rng, thinking, level)
    offered = offer(rng, level)
    before = exchange(rng, offered) if rng.random() < 0.5 else []
    return Sample("no tool", other.key, before + other.messages, other.check, other.expected, thinking,
                  [o.spec for o in offered])
