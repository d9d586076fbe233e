"""EvalPlus, from asking to verdicts, on two problems of our own: python evalplus_check.py path/to/tidemill

The tiny model cannot write programs, so every verdict is that its program is wrong. What is tested is the way from
EvalPlus' OpenAI provider through the server and back: each answer is asked for and taken as it was given, one at a
time and several at once. Nothing is fetched from anywhere.
"""

import json
import os
import pathlib
import sys
import tempfile

import openai

from serving import KEY, serving

PROBLEMS = pathlib.Path(__file__).resolve().with_name("evalplus_problems.jsonl")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def greedy(base, folder):
    """Codes greedily, tests what was coded, and compares each answer with the server's own."""
    from evalplus.evaluate import evaluate
    from evalplus.gen.util.openai_request import make_request

    evaluate(
        dataset="humaneval",
        model="tide",
        backend="openai",
        base_url=f"{base}/v1",
        greedy=True,
        root=str(folder),
        parallel=1,
    )
    (verdicts,) = folder.glob("humaneval/*_eval_results.json")
    statuses = {task: tries[0]["base_status"] for task, tries in json.loads(verdicts.read_text())["eval"].items()}
    assert statuses == {"HumanEval/0": "fail", "HumanEval/1": "fail"}, statuses
    (raw,) = folder.glob("humaneval/*.raw.jsonl")
    client = openai.OpenAI(base_url=f"{base}/v1", api_key=KEY)
    prefix = "Please provide a self-contained Python script that solves the following problem in a markdown code block:"
    for problem, answer in zip(lines(PROBLEMS), lines(raw), strict=True):
        message = f"{prefix}\n```python\n{problem['prompt'].strip()}\n```"
        again = make_request(client, message=message, model="tide", max_tokens=768, temperature=0, n=1)
        assert answer["solution"] == again.choices[0].message.content != "", answer
    print("ok evalplus greedy", flush=True)


def several(base, folder):
    """Asks for two answers in a request."""
    from evalplus.codegen import run_codegen

    path = run_codegen(
        model="tide",
        dataset="humaneval",
        backend="openai",
        base_url=f"{base}/v1",
        n_samples=2,
        temperature=0.8,
        root=str(folder),
    )
    tasks = [answer["task_id"] for answer in lines(pathlib.Path(path))]
    assert tasks == ["HumanEval/0"] * 2 + ["HumanEval/1"] * 2, tasks
    print("ok evalplus several", flush=True)


def main(program):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "evalplus").mkdir()
        # It reads these when it is imported, and keeps the right solutions' outputs in a cache.
        os.environ |= {"HUMANEVAL_OVERRIDE_PATH": str(PROBLEMS), "XDG_CACHE_HOME": str(folder), "OPENAI_API_KEY": KEY}
        with serving(program) as base:
            greedy(base, folder / "greedy")
            several(base, folder / "several")


if __name__ == "__main__":
    main(sys.argv[1])
