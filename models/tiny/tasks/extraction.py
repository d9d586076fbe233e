"""Answering in JSON to a schema, from facts in prose."""

import json
import random

from .base import Sample, answer, user
from .words import CITIES, COLORS, DAYS, FOODS, JOBS, NAMES, OBJECTS, PLACES, SPORTS

# Each record: its subject, then its fields as (name, type, values, sentences by value or one template).
# {s} is the subject; {v} the value.
PERSON = ("name", NAMES, [
    ("age", "integer", range(5, 90), ["{s} is {v} years old.", "{s} turned {v} this year."]),
    ("city", "string", CITIES, ["{s} lives in {v}.", "{s} is from {v}."]),
    ("job", "string", JOBS, ["{s} works as a {v}.", "{s} is a {v}."]),
    ("sport", "string", SPORTS, ["{s} likes {v}.", "{s} plays {v} a lot."]),
    ("food", "string", FOODS, ["{s} loves {v}.", "{s} often eats {v}."]),
    ("student", "boolean", (True, False), {True: "{s} is a student.", False: "{s} is not a student."}),
])
PRODUCT = ("item", OBJECTS, [
    ("price", "number", [x / 2 for x in range(1, 100)], ["The {s} costs {v} dollars.", "The price of the {s} is {v}."]),
    ("color", "string", COLORS, ["The {s} is {v}.", "The {s} comes in {v}."]),
    ("count", "integer", range(1, 100), ["There are {v} of the {s} left.", "We have {v} of the {s}."]),
    ("place", "string", PLACES, ["The {s} is in the {v}.", "You find the {s} at the {v}."]),
    ("sold", "boolean", (True, False), {True: "The {s} is sold.", False: "The {s} is not sold."}),
])
EVENT = ("event", ["party", "meeting", "concert", "lesson", "race", "dinner", "trip", "game"], [
    ("day", "string", DAYS, ["The {s} is on {v}.", "Come to the {s} on {v}."]),
    ("hour", "integer", range(1, 24), ["The {s} begins at {v}.", "The {s} starts at {v}."]),
    ("city", "string", CITIES, ["The {s} is in {v}.", "We hold the {s} in {v}."]),
    ("guests", "integer", range(2, 60), ["The {s} has {v} guests.", "{v} people come to the {s}."]),
    ("host", "string", NAMES, ["{v} hosts the {s}.", "The host of the {s} is {v}."]),
    ("free", "boolean", (True, False), {True: "The {s} is free.", False: "The {s} is not free."}),
])
RECORDS = (PERSON, PRODUCT, EVENT)

ASKS = ["Answer in JSON with this schema: {schema}\nText: {text}",
        "Text: {text}\nReply with JSON that fits this schema: {schema}",
        "Extract the data as JSON.\nSchema: {schema}\nText: {text}",
        "Schema: {schema}\nFill the schema from the text and reply in JSON.\n{text}"]
SYSTEMS = ["Reply only with JSON that fits this schema: {schema}", "Answer in JSON with this schema: {schema}",
           "You extract data. Reply in JSON. Schema: {schema}"]


def record(rng: random.Random) -> tuple[dict, list[tuple[str, str]], str]:
    """A record's values, its (field, type) pairs and the prose that states it."""
    subject_field, subjects, fields = rng.choice(RECORDS)
    subject = rng.choice(subjects)
    values, kinds, prose = {subject_field: subject}, [(subject_field, "string")], []
    for name, kind, pool, sentences in rng.sample(fields, rng.randint(1, 4)):
        value = rng.choice(pool)
        template = sentences[value] if isinstance(sentences, dict) else rng.choice(sentences)
        prose.append(template.format(s=subject, v=value))
        values[name] = value
        kinds.append((name, kind))
    return values, kinds, " ".join(prose)


def sample(rng: random.Random, thinking: bool, level: float) -> Sample:
    values, kinds, text = record(rng)
    # The schema may leave out what the text tells, and has its own order.
    wanted = rng.sample(kinds, rng.randint(2, len(kinds)))
    schema = {"type": "object", "properties": {name: {"type": kind} for name, kind in wanted}}
    if rng.random() < 0.7:
        schema["required"] = [name for name, _ in wanted]
    if rng.random() < 0.2:
        schema["additionalProperties"] = False
    expected = {name: values[name] for name, _ in wanted}
    shown = json.dumps(schema)
    if rng.random() < 0.4:
        messages = [{"role": "system", "content": rng.choice(SYSTEMS).format(schema=shown)}, user(text)]
    else:
        messages = [user(rng.choice(ASKS).format(schema=shown, text=text))]
    thought = f"The fields are {', '.join(expected)}." if thinking else ""
    messages.append(answer(json.dumps(expected), thought))
    return Sample("json", "json " + json.dumps(expected), messages, "json", expected, thinking)
