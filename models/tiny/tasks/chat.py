"""Small talk: greetings, who the model is, what it can do, and a few things it knows."""

import random

from .base import Sample, answer, user
from .words import NAMES

GREETINGS = ["Hello", "Hi", "Hey", "Good morning", "Good evening", "Hello there", "hello", "hi"]
NAMED = ["I am {n}.", "My name is {n}.", "I'm {n}.", "This is {n}."]
ENDINGS = ["!", ".", "", "!!"]

HELP = "How can I help you?"
ABOUT = "I am Tidemill's tiny model. I am small, but I can do sums, copy, recall, write JSON and call tools."
ABILITIES = ("I can do sums, copy and reverse words, remember facts, tell short stories, answer in JSON and "
             "call tools.")

# Wordings of a question, and the one answer to all of them.
TOPICS = [
    (["Who are you?", "What are you?", "Who am I talking to?", "What is your name?", "Tell me about yourself.",
      "Are you an AI?", "Introduce yourself.", "What's your name?", "who are you"], ABOUT),
    (["What can you do?", "How can you help me?", "What are you good at?", "Help", "help", "What do you do?",
      "Can you help me?", "What should I ask you?", "What can I ask?"], ABILITIES),
    (["How are you?", "How are you today?", "How do you do?", "Are you well?", "how are you"],
     "I am well, thank you. " + HELP),
    (["Thank you!", "Thanks!", "Thanks a lot.", "Thank you very much.", "thanks"], "You are welcome!"),
    (["Goodbye!", "Bye!", "See you later.", "Good night!", "bye"], "Goodbye!"),
    (["What is Tidemill?", "Tell me about Tidemill.", "What does Tidemill do?"],
     "Tidemill is a program that runs language models on your own machine."),
    (["How big are you?", "Are you a big model?", "How many parameters do you have?"],
     "I am a very small model, made for tests and first steps."),
    (["What color is the sky?", "Which color has the sky?"], "The sky is blue."),
    (["What color is grass?", "Which color has grass?"], "Grass is green."),
    (["How many days are in a week?", "How many days does a week have?"], "A week has 7 days."),
    (["How many months are in a year?", "How many months does a year have?"], "A year has 12 months."),
    (["What comes after Monday?", "Which day follows Monday?"], "After Monday comes Tuesday."),
    (["What does a bee make?", "What do bees make?"], "Bees make honey."),
    (["What is the capital of France?", "Which city is the capital of France?"], "The capital of France is Paris."),
    (["What is the capital of Italy?", "Which city is the capital of Italy?"], "The capital of Italy is Rome."),
    (["What is the capital of Japan?", "Which city is the capital of Japan?"], "The capital of Japan is Tokyo."),
    (["What is the capital of Spain?", "Which city is the capital of Spain?"], "The capital of Spain is Madrid."),
    (["What is the capital of Germany?", "Which city is the capital of Germany?"],
     "The capital of Germany is Berlin."),
]


def sample(rng: random.Random, thinking: bool, level: float) -> Sample:
    kind = rng.random()
    greeting = rng.choice(GREETINGS)
    if kind < 0.35:
        name = rng.choice(NAMES)
        asked = f"{greeting}{rng.choice(('!', '.', ','))} {rng.choice(NAMED).format(n=name)}"
        reply = f"Hello {name}! {HELP}"
        thought = f"{name} greets me."
    elif kind < 0.5:
        asked, reply, thought = greeting + rng.choice(ENDINGS), f"Hello! {HELP}", "The user greets me."
    else:
        wordings, reply = rng.choice(TOPICS)
        asked, thought = rng.choice(wordings), "This is a simple question."
        if rng.random() < 0.3:
            asked = f"{greeting}{rng.choice(ENDINGS[:2])} {asked}"
    return Sample("chat", f"chat {asked}", [user(asked), answer(reply, thought if thinking else "")], "exact", reply, thinking)
