"""lm_eval's local-completions on tasks of our own: python lm_eval_check.py path/to/tidemill

Multiple choice reads `echo` with `logprobs`, the other task what is generated. The tokenizer is the server's own, by
`/tokenize` and `/tokenizer_info`. Nothing is fetched from anywhere.
"""

import os
import pathlib
import sys

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

import lm_eval
from lm_eval.tasks import TaskManager

from serving import KEY, serving

FOLDER = pathlib.Path(__file__).resolve().with_name("lm_eval_task")


def evaluate(base, **model):
    arguments = {"model": "tide", "base_url": f"{base}/v1/completions", "auth_token": KEY, "max_length": 4096, **model}
    results = lm_eval.simple_evaluate(
        model="local-completions",
        model_args=arguments,
        tasks=["tide_capitals", "tide_again"],
        task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False),
        bootstrap_iters=0,
    )["results"]
    return results["tide_capitals"]["acc,none"], results["tide_again"]["exact_match,none"]


def main(program):
    os.environ["OPENAI_API_KEY"] = KEY
    # The tasks name their data by paths beside them.
    os.chdir(FOLDER)
    with serving(program) as base:
        one = evaluate(base, tokenizer_backend="remote", num_concurrent=1)
        print("ok lm_eval, one by one:", one, flush=True)
        # Prompts as text, several at once, and several in a request.
        many = evaluate(base, tokenizer_backend="remote", num_concurrent=4, tokenized_requests=False, batch_size=3)
        print("ok lm_eval, at once:", many, flush=True)
    known, said = one
    assert (known, said) == (1.0, 1.0), one
    assert one == many, (one, many)


if __name__ == "__main__":
    main(sys.argv[1])
