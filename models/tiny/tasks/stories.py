"""Short stories from a small grammar, about an animal and a thing."""

import random
import re

from .base import Sample, answer, sentence_case, user
from .words import ANIMALS, FOODS, NAMES, OBJECTS, PLACES, TRAITS

ASKS = ["Tell a story about a {a} and a {o}.", "Tell me a story about a {a} and a {o}.",
        "Write a short story about a {a} and a {o}.", "I want a story with a {a} and a {o}.",
        "Can you tell a story about a {a} and a {o}?", "A story about a {a} and a {o}, please."]

OPENINGS = ["Once there was a {t} {a} named {n}.", "Once upon a time, a {t} {a} named {n} lived near the {p}.",
            "In a {p} lived a {t} {a} named {n}.", "Long ago, a {t} {a} named {n} lived by the {p}."]
FINDS = ["One day {n} found a {o} in the {p}.", "One morning {n} saw a {o} by the {q}.",
         "One night {n} heard a noise and found a {o}.", "{n} wanted a {o} more than anything."]
MIDDLES = ["A {b} came by and asked, \"What is that?\"", "\"This {o} is mine,\" said a {u} {b}.",
           "{n} showed the {o} to a {u} {b}.", "A {u} {b} wanted the {o} too.",
           "But the {o} fell into the {q}, and {n} was sad.", "{n} carried the {o} all the way to the {q}.",
           "{n} did not know what to do with the {o}.", "It began to rain, and the {o} got wet."]
TURNS = ["So they shared some {f} and talked.", "\"Let us use it together,\" said {n}.",
         "{n} gave it to the {b} with a smile.", "The {b} helped {n} to bring it home.",
         "Then {n} had an idea and ran to the {q}.", "They looked at it until the sun went down."]
MORALS = ["From that day on, {n} and the {b} were friends.", "{n} was never lonely again.",
          "That night {n} slept well, with the {o} close by.", "And everyone in the {p} was happy."]
END = "The end."


def story(rng: random.Random, animal: str, thing: str) -> str:
    words = {"a": animal, "o": thing, "t": rng.choice(TRAITS), "u": rng.choice(TRAITS), "n": rng.choice(NAMES),
             "b": rng.choice([x for x in ANIMALS if x != animal]), "p": rng.choice(PLACES),
             "q": rng.choice(PLACES), "f": rng.choice(FOODS)}
    lines = [rng.choice(OPENINGS), rng.choice(FINDS), *rng.sample(MIDDLES, rng.randint(1, 2)),
             rng.choice(TURNS), rng.choice(MORALS), END]
    return with_articles(" ".join(line.format(**words) for line in lines))


def with_articles(text: str) -> str:
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def filler(rng: random.Random, sentences: int) -> str:
    """Story-like text that carries no fact, to put distance between a fact and its question."""
    lines = []
    while len(lines) < sentences:
        text = story(rng, rng.choice(ANIMALS), rng.choice(OBJECTS))
        lines += text.removesuffix(" " + END).split(". ")
    return sentence_case(". ".join(line.rstrip(".") for line in lines[:sentences])) + "."


def sample(rng: random.Random, thinking: bool, level: float) -> Sample:
    animal, thing = rng.choice(ANIMALS), rng.choice(OBJECTS)
    thought = with_articles(f"The story needs a {animal}, a {thing} and a good end.") if thinking else ""
    return Sample("stories", f"story {animal} {thing}", [
        user(with_articles(rng.choice(ASKS).format(a=animal, o=thing))),
        answer(story(rng, animal, thing), thought),
    ], "story", [animal, thing], thinking)
