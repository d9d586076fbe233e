"""The tools that the tiny model learns to call, as data."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from .base import code
from .words import CITIES, COLORS, DAYS, FOODS, JOBS, NAMES, OBJECTS, PLACES, SPORTS, WEATHER, WORDS


@dataclass(frozen=True)
class Param:
    names: tuple[str, ...]  # what the parameter may be called in a schema
    schema: dict
    draw: Callable[[random.Random], object]
    text: str = ""  # its description


@dataclass(frozen=True)
class Tool:
    names: tuple[str, ...]
    text: str
    params: dict[str, Param]
    asks: tuple[str, ...]  # a placeholder per argument; parameters without one are left out of the call
    result: dict[str, Callable[[random.Random], object]]
    reply: str  # from arguments and result
    flags: dict[str, dict[bool, str]] | None = None  # how boolean arguments are worded in asks


def string(*names: str, pool, text: str = "") -> Param:
    return Param(names, {"type": "string"}, lambda rng: rng.choice(pool), text)


def integer(*names: str, low: int = 1, high: int = 99, text: str = "") -> Param:
    return Param(names, {"type": "integer"}, lambda rng: rng.randint(low, high), text)


def number(*names: str, text: str = "") -> Param:
    return Param(names, {"type": "number"}, lambda rng: rng.randint(1, 199) / 2, text)


def boolean(*names: str, text: str = "") -> Param:
    return Param(names, {"type": "boolean"}, lambda rng: rng.random() < 0.5, text)


def choice(*names: str, options: tuple[str, ...], text: str = "") -> Param:
    return Param(names, {"type": "string", "enum": list(options)}, lambda rng: rng.choice(options), text)


def secret(*names: str, text: str = "") -> Param:
    return Param(names, {"type": "string"}, code, text)


def picks(pool) -> Callable[[random.Random], object]:
    return lambda rng: rng.choice(pool)


def ints(low: int, high: int) -> Callable[[random.Random], object]:
    return lambda rng: rng.randint(low, high)


TOOLS = [
    Tool(("get_weather", "weather", "fetch_weather"), "Get the weather in a city.",
         {"city": string("city", "location", "place", pool=CITIES, text="Name of the city"),
          "days": integer("days", "day_count", high=9, text="Days ahead")},
         ("What is the weather in {city}?", "Weather in {city}?", "How is the weather in {city}?",
          "What will the weather in {city} be for {days} days?", "Give me the weather in {city} for {days} days."),
         {"sky": picks(WEATHER), "degrees": ints(0, 35)}, "It is {sky} in {city}, {degrees} degrees."),
    Tool(("get_time", "time_in", "clock"), "Get the time in a city.",
         {"city": string("city", "location", "zone", pool=CITIES, text="Name of the city")},
         ("What time is it in {city}?", "Tell me the time in {city}.", "Time in {city}?"),
         {"time": lambda rng: f"{rng.randint(0, 23)}:{rng.randint(10, 59)}"}, "It is {time} in {city}."),
    Tool(("send_message", "send_mail", "text_person"), "Send a message to a person.",
         {"to": string("to", "name", "receiver", pool=NAMES, text="Who gets it"),
          "text": Param(("text", "message", "body"), {"type": "string"},
                        lambda rng: " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 4))), "What to say")},
         ("Send \"{text}\" to {to}.", "Tell {to}: {text}", "Send {to} the message: {text}"),
         {"sent": lambda rng: True}, "I sent it to {to}."),
    Tool(("set_timer", "start_timer", "timer"), "Start a timer.",
         {"minutes": integer("minutes", "duration", "mins", text="How long"),
          "sound": boolean("sound", "ring", "loud", text="Whether it rings")},
         ("Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes.",
          "Set a timer for {minutes} minutes {sound}.", "Timer of {minutes} minutes, {sound}."),
         {"timer": ints(1, 9)}, "Timer {timer} runs for {minutes} minutes.",
         {"sound": {True: "with sound", False: "without sound"}}),
    Tool(("add_item", "add_to_list", "list_add"), "Add an item to the shopping list.",
         {"item": string("item", "product", "thing", pool=FOODS, text="What to buy"),
          "count": integer("count", "amount", "quantity", text="How many")},
         ("Add {item} to my list.", "Put {item} on the shopping list.", "Add {count} {item} to my list.",
          "I need {count} {item} on the list."),
         {"items": ints(1, 20)}, "I added {item}. Your list has {items} items."),
    Tool(("turn_light", "set_light", "switch_light"), "Turn a light on or off.",
         {"room": string("room", "place", "area", pool=("kitchen", "bedroom", "bathroom", "hall", "office", "attic"),
                         text="Which room"),
          "on": boolean("on", "enabled", "state", text="True for on")},
         ("Turn {on} the light in the {room}.", "Switch {on} the {room} light.", "Light {on} in the {room}, please."),
         {"done": lambda rng: True}, "The light in the {room} is {on} now.", {"on": {True: "on", False: "off"}}),
    Tool(("convert_money", "exchange", "convert"), "Convert money to another currency.",
         {"amount": number("amount", "value", "sum", text="How much"),
          "to": choice("to", "currency", "target", options=("EUR", "USD", "GBP", "JPY", "CHF"), text="New currency")},
         ("Convert {amount} to {to}.", "How much is {amount} in {to}?", "Change {amount} into {to}."),
         {"result": lambda rng: rng.randint(1, 399) / 2}, "That is {result} {to}."),
    Tool(("play_music", "play_song", "music"), "Play music.",
         {"style": choice("style", "genre", "kind", options=("jazz", "rock", "pop", "folk", "blues"), text="Kind"),
          "volume": integer("volume", "level", high=10, text="From 1 to 10")},
         ("Play some {style}.", "I want to hear {style}.", "Play {style} at volume {volume}.",
          "Put on {style} with volume {volume}."),
         {"song": picks(WORDS)}, "Now playing the song {song}."),
    Tool(("find_person", "lookup_person", "get_contact"), "Find the data of a person.",
         {"name": string("name", "person", "who", pool=NAMES, text="Name of the person")},
         ("What is the phone number of {name}?", "Find {name} for me.", "How can I reach {name}?"),
         {"phone": ints(100, 999), "job": picks(JOBS)}, "{name} is a {job}. The phone number is {phone}."),
    Tool(("get_price", "price_of", "check_price"), "Get the price of a thing.",
         {"item": string("item", "product", "thing", pool=OBJECTS, text="Name of the thing"),
          "color": choice("color", "variant", options=tuple(COLORS[:5]), text="Color")},
         ("What does a {item} cost?", "What is the price of a {item}?", "How much is a {color} {item}?",
          "Price of a {color} {item}?"),
         {"price": lambda rng: rng.randint(1, 99) / 2}, "The {item} costs {price} dollars."),
    Tool(("book_table", "reserve_table", "reserve"), "Book a table for dinner.",
         {"people": integer("people", "guests", "seats", high=12, text="How many people"),
          "day": choice("day", "date", options=tuple(DAYS), text="Day of the week"),
          "outside": boolean("outside", "terrace", text="Whether to sit outside")},
         ("Book a table for {people} on {day}.", "Reserve a table for {people} people on {day}.",
          "Book a table for {people} on {day}, {outside}.", "A table {outside} for {people} on {day}, please."),
         {"number": ints(1, 40)}, "You have table {number} on {day}.",
         {"outside": {True: "outside", False: "inside"}}),
    Tool(("read_file", "open_file", "load_file"), "Read a file.",
         {"path": Param(("path", "file", "filename"), {"type": "string"},
                        lambda rng: f"{rng.choice(WORDS)}.{rng.choice(('txt', 'md', 'csv', 'json'))}",
                        "Path of the file"),
          "lines": integer("lines", "limit", "max_lines", text="How many lines")},
         ("Read {path}.", "What is in the file {path}?", "Show me {path}.", "Show the first {lines} lines of {path}.",
          "Read {lines} lines of {path}."),
         {"text": lambda rng: " ".join(rng.choice(WORDS) for _ in range(3))}, "The file {path} says: {text}"),
    Tool(("search", "web_search", "find"), "Search for words.",
         {"query": Param(("query", "text", "words"), {"type": "string"},
                         lambda rng: " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 3))), "What to find"),
          "limit": integer("limit", "count", "max", high=20, text="How many results")},
         ("Search for {query}.", "Find something about {query}.", "Look up {query}.",
          "Find {limit} results about {query}.", "Search {query} and show {limit} results."),
         {"best": picks(WORDS), "hits": ints(1, 99)}, "I found {hits} results. The best one is {best}."),
    Tool(("check_door", "door_code", "get_code"), "Get the code of a door.",
         {"door": secret("door", "id", "key", text="The door's id")},
         ("What is the code of door {door}?", "Give me the code for door {door}.", "Check door {door}."),
         {"code": code}, "The code of door {door} is {code}."),
    Tool(("plan_trip", "find_train", "find_route"), "Find a trip between two cities.",
         {"start": string("start", "origin", "from_city", pool=CITIES, text="Where it begins"),
          "end": string("end", "goal", "to_city", pool=CITIES, text="Where it ends"),
          "fast": boolean("fast", "express", text="Only fast trains")},
         ("How do I get from {start} to {end}?", "Find a trip from {start} to {end}.",
          "I want to go from {start} to {end}, {fast}.", "Plan a trip from {start} to {end}, {fast}."),
         {"hours": ints(1, 30)}, "The trip from {start} to {end} takes {hours} hours.",
         {"fast": {True: "fast trains only", False: "slow trains too"}}),
    Tool(("set_heat", "set_temperature", "heating"), "Set the temperature of a room.",
         {"room": string("room", "place", "area", pool=("kitchen", "bedroom", "bathroom", "hall", "office", "attic"),
                         text="Which room"),
          "degrees": number("degrees", "temperature", "target", text="Degrees wanted")},
         ("Set the {room} to {degrees} degrees.", "Heat the {room} to {degrees} degrees.",
          "Make it {degrees} degrees in the {room}."),
         {"done": lambda rng: True}, "The {room} is set to {degrees} degrees."),
    Tool(("book_court", "join_game", "find_game"), "Join a game.",
         {"sport": string("sport", "game", "activity", pool=SPORTS, text="Which sport"),
          "day": choice("day", "date", options=tuple(DAYS), text="Day of the week")},
         ("I want to play {sport} on {day}.", "Find a game of {sport} on {day}.", "Let me join {sport} on {day}."),
         {"place": picks(PLACES), "hour": ints(8, 20)}, "You can play {sport} at the {place} at {hour}."),
]
