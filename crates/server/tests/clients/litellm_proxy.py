"""LiteLLM as a proxy between clients and a running server: python litellm_proxy.py path/to/tidemill"""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import anthropic
import openai

from serving import ABOUT, CALM, GREETING, KEY, QUESTION, SCHEMA, TOOL, serving, user

MASTER = "sk-master"


@contextlib.contextmanager
def proxy(base):
    """LiteLLM in front of the server at `base`, by two of its own dialects."""
    models = [
        {"model_name": "tide", "litellm_params": {"model": "openai/tide", "api_base": f"{base}/v1", "api_key": KEY}},
        {"model_name": "tide-claude", "litellm_params": {"model": "anthropic/tide", "api_base": base, "api_key": KEY}},
        {
            "model_name": "tide-vllm",
            "litellm_params": {"model": "hosted_vllm/tide", "api_base": f"{base}/v1", "api_key": KEY},
        },
        {
            "model_name": "tide-ollama",
            "litellm_params": {"model": "ollama_chat/tide", "api_base": base, "api_key": KEY},
        },
    ]
    settings = {
        "model_list": models,
        "litellm_settings": {"telemetry": False},
        "general_settings": {"master_key": MASTER},
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "config.yaml"
        # JSON is YAML.
        config.write_text(json.dumps(settings))
        log = open(pathlib.Path(folder) / "log", "w+")
        # Its own table of prices, instead of one from the network.
        environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "*"}
        program = pathlib.Path(sys.executable).with_name("litellm")
        process = subprocess.Popen(
            [program, "--config", config, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            env=environment,
        )
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(180):
                if process.poll() is not None:
                    break
                with contextlib.suppress(OSError):
                    urllib.request.urlopen(f"{address}/health/liveliness").close()
                    yield address
                    return
                time.sleep(1)
            log.seek(0)
            sys.exit(f"the proxy did not start:\n{log.read()[-4000:]}")
        finally:
            process.terminate()
            process.wait(timeout=60)


def chats(address, model):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key=MASTER, max_retries=0)
    calm = CALM if model != "tide-ollama" else {"think": False}
    whole = client.chat.completions.create(model=model, messages=user("hello!!"), extra_body=calm)
    assert whole.choices[0].message.content == GREETING, whole
    assert whole.usage.total_tokens > 0
    pieces = client.chat.completions.create(model=model, messages=user("hello!!"), stream=True, extra_body=calm)
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == GREETING, text


def tools(address, model):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key=MASTER, max_retries=0)
    whole = client.chat.completions.create(model=model, messages=QUESTION, tools=[TOOL], extra_body=CALM)
    (call,) = whole.choices[0].message.tool_calls
    assert call.function.name == "price_of" and json.loads(call.function.arguments)["thing"] == "cup"
    with client.chat.completions.stream(model=model, messages=QUESTION, tools=[TOOL], extra_body=CALM) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.tool_calls[0].function.arguments == call.function.arguments
    answer = whole.choices[0].message.model_dump(exclude_none=True)
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"price": 24.5}'}
    after = client.chat.completions.create(
        model=model, messages=[*QUESTION, answer, result], tools=[TOOL], extra_body=CALM
    )
    assert "24.5" in after.choices[0].message.content


def messages(address, model):
    """Anthropic's form in front of the proxy."""
    client = anthropic.Anthropic(base_url=address, api_key=MASTER, max_retries=0)
    whole = client.messages.create(model=model, max_tokens=100, messages=user("hello!!"))
    assert whole.content[-1].text == GREETING, whole
    with client.messages.stream(model=model, max_tokens=100, messages=user("hello!!")) as stream:
        assert "".join(stream.text_stream) == GREETING
    tool = {"name": "price_of", "description": ABOUT, "input_schema": SCHEMA}
    called = client.messages.create(model=model, max_tokens=200, messages=QUESTION, tools=[tool])
    assert called.content[-1].input["thing"] == "cup", called


def errors(address):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key=MASTER, max_retries=0)
    try:
        client.chat.completions.create(model="tide", messages=user("word " * 20_000))
        raise AssertionError("too long a prompt was taken")
    except openai.BadRequestError as error:
        assert "context" in str(error).lower(), error


def main(program):
    with serving(program) as base, proxy(base) as address:
        for check, *arguments in [
            (chats, "tide"),
            (chats, "tide-vllm"),
            (chats, "tide-ollama"),
            (tools, "tide"),
            (tools, "tide-vllm"),
            (messages, "tide-claude"),
            (errors,),
        ]:
            check(address, *arguments)
            print("ok litellm", check.__name__, *arguments, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
