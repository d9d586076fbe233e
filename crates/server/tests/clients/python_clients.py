"""The Python clients of OpenAI, Anthropic and Ollama against a running server with the tiny model.

    python -m venv venv && venv/bin/pip install -r python.txt
    venv/bin/python python_clients.py path/to/tidemill

Starts `tidemill serve` on a port that the system chooses, and stops it at the end. The ignored tests in
`crates/server/tests/clients.rs` do all of this.
"""

import json
import sys

import anthropic
import ollama
import openai
import pydantic

from serving import ABOUT, CALM, GREETING, KEY, QUESTION, SCHEMA, TOOL, WORDS, run, user


class Person(pydantic.BaseModel):
    name: str
    age: int


def openai_chat(base):
    client = openai.OpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=0)
    assert client.models.list().data[0].id
    chat = client.chat.completions
    whole = chat.create(model="gpt-4o", messages=user("hello!!"), extra_body=CALM)
    assert whole.choices[0].message.content == GREETING
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    pieces = list(
        chat.create(
            model="gpt-4o",
            messages=user("hello!!"),
            stream=True,
            stream_options={"include_usage": True},
            extra_body=CALM,
        )
    )
    assert "".join(p.choices[0].delta.content or "" for p in pieces if p.choices) == GREETING
    assert pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
    thinking = chat.create(model="x", messages=user(f"Say this again: {WORDS}"), reasoning_effort="high")
    assert thinking.choices[0].message.content == WORDS
    assert thinking.choices[0].message.reasoning_content == "I copy the text as it is."


def openai_tools(base):
    client = openai.OpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=0)
    chat = client.chat.completions
    whole = chat.create(model="x", messages=QUESTION, tools=[TOOL], extra_body=CALM)
    (call,) = whole.choices[0].message.tool_calls
    assert call.function.name == "price_of"
    assert json.loads(call.function.arguments)["thing"] == "cup"
    with client.chat.completions.stream(model="x", messages=QUESTION, tools=[TOOL], extra_body=CALM) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"
    assert final.choices[0].message.tool_calls[0].function.arguments == call.function.arguments
    answer = whole.choices[0].message.model_dump(exclude_none=True)
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"price": 24.5}'}
    after = chat.create(model="x", messages=[*QUESTION, answer, result], tools=[TOOL], extra_body=CALM)
    assert "24.5" in after.choices[0].message.content
    parsed = chat.parse(model="x", messages=user("Dora turned 81 this year."), response_format=Person, extra_body=CALM)
    assert isinstance(parsed.choices[0].message.parsed, Person)


def openai_errors(base):
    client = openai.OpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=0)
    try:
        client.chat.completions.create(model="x", messages=user("word " * 100_000))
        raise AssertionError("too long a prompt was taken")
    except openai.BadRequestError as error:
        assert error.code == "context_length_exceeded", error
    try:
        openai.OpenAI(base_url=f"{base}/v1", api_key="wrong", max_retries=0).models.list()
        raise AssertionError("a wrong key was taken")
    except openai.AuthenticationError:
        pass


def openai_responses(base):
    client = openai.OpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=0)
    quiet = {"effort": "none"}
    whole = client.responses.create(model="x", input="hello!!", reasoning=quiet, store=False)
    assert whole.output_text == GREETING and whole.status == "completed"
    with client.responses.stream(model="x", input="hello!!", reasoning=quiet) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.output_text == GREETING
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds
    tool = {"type": "function", "name": "price_of", "description": ABOUT, "parameters": SCHEMA, "strict": False}
    whole = client.responses.create(model="x", input=QUESTION, tools=[tool, {"type": "web_search"}], reasoning=quiet)
    (call,) = whole.output
    assert call.type == "function_call" and json.loads(call.arguments)["thing"] == "cup"
    after = client.responses.create(
        model="x",
        tools=[tool],
        reasoning=quiet,
        input=[
            *QUESTION,
            call.model_dump(),
            {"type": "function_call_output", "call_id": call.call_id, "output": '{"price": 24.5}'},
        ],
    )
    assert "24.5" in after.output_text
    parsed = client.responses.parse(model="x", input="Dora turned 81 this year.", text_format=Person, reasoning=quiet)
    assert isinstance(parsed.output_parsed, Person)


def openai_completions(base):
    client = openai.OpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=0)
    whole = client.completions.create(model="x", prompt="one two three", max_tokens=4, logprobs=2, echo=True)
    logprobs = whole.choices[0].logprobs
    assert logprobs.token_logprobs[0] is None and logprobs.token_logprobs[1] <= 0
    assert "".join(logprobs.tokens) == whole.choices[0].text


def anthropic_messages(base):
    client = anthropic.Anthropic(base_url=base, api_key=KEY, max_retries=0)
    whole = client.messages.create(model="claude-sonnet-4-5", max_tokens=100, messages=user("hello!!"))
    assert whole.content[0].text == GREETING and whole.stop_reason == "end_turn"
    counted = client.messages.count_tokens(model="claude-sonnet-4-5", messages=user("hello!!"))
    usage = whole.usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens
    thinking = {"type": "enabled", "budget_tokens": 1024}
    with client.messages.stream(
        model="x", max_tokens=2000, thinking=thinking, messages=user(f"Say this again: {WORDS}")
    ) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "text"]
    assert final.content[1].text == WORDS
    tool = {"name": "price_of", "description": ABOUT, "input_schema": SCHEMA}
    whole = client.messages.create(model="x", max_tokens=200, messages=QUESTION, tools=[tool])
    with client.messages.stream(model="x", max_tokens=200, messages=QUESTION, tools=[tool]) as stream:
        final = stream.get_final_message()
    assert whole.content[-1].input == final.content[-1].input and whole.content[-1].input["thing"] == "cup"
    assert final.stop_reason == "tool_use"
    call = whole.content[-1]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": '{"price": 24.5}'}
    after = client.messages.create(
        model="x",
        max_tokens=200,
        tools=[tool],
        messages=[*QUESTION, {"role": "assistant", "content": whole.content}, {"role": "user", "content": [result]}],
    )
    assert "24.5" in after.content[0].text
    try:
        client.messages.create(model="x", max_tokens=1, messages=user("word " * 100_000))
        raise AssertionError("too long a prompt was taken")
    except anthropic.BadRequestError as error:
        assert "prompt is too long" in str(error)


def ollama_chat(base):
    client = ollama.Client(host=base, headers={"Authorization": f"Bearer {KEY}"})
    assert client.list().models[0].model
    assert "tools" in client.show("anything").capabilities
    whole = client.chat(model="x", messages=user("hello!!"), think=False)
    assert whole.message.content == GREETING
    pieces = client.chat(model="x", messages=user("hello!!"), think=False, stream=True)
    assert "".join(piece.message.content or "" for piece in pieces) == GREETING
    called = client.chat(model="x", messages=QUESTION, tools=[TOOL], think=False)
    (call,) = called.message.tool_calls
    assert call.function.name == "price_of" and call.function.arguments["thing"] == "cup"
    form = client.chat(
        model="x", messages=user("Dora turned 81 this year."), think=False, format=Person.model_json_schema()
    )
    Person.model_validate_json(form.message.content)
    thinking = client.generate(model="x", prompt=f"Say this again: {WORDS}", think=True)
    assert thinking.response == WORDS and thinking.thinking


CHECKS = [
    openai_chat,
    openai_tools,
    openai_errors,
    openai_responses,
    openai_completions,
    anthropic_messages,
    ollama_chat,
]


if __name__ == "__main__":
    run(sys.argv[1], CHECKS)
