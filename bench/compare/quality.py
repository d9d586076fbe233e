"""How exactly both engines compute the same quantised file.

The tiny trained model is quantised by llama.cpp's own quantiser. The logits of both engines after
every token of held-out conversations are compared with those of plain f32 loops (`tidemill logits
--backend reference`) on the same file, which is the error of the engine alone, and on the
unquantised file, which is that of engine and quantisation together.
"""

import array
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sides import Theirs, Trouble

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "models/tiny/tidemill-tiny.gguf"

# What llama.cpp calls its mixes (llama_ftype).
TYPES = {"Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "MXFP4_MOE": 38}
# The loops that judge are slow, in Rust and here.
LONGEST = 128


def conversations(count):
    """Token ids of conversations, evenly over all tasks: prompt and reference answer."""
    answers = {}
    for line in (ROOT / "models/tiny/hf_results.jsonl").read_text().splitlines():
        result = json.loads(line)
        answers[result["id"]] = result.get("ids") or result.get("tokens") or []
    lines = (ROOT / "models/tiny/heldout.jsonl").read_text().splitlines()
    step = max(1, len(lines) // count)
    for line in lines[::step][:count]:
        prompt = json.loads(line)
        whole = prompt["prompt_ids"] + answers.get(prompt["id"], [])
        yield whole[-LONGEST:]


def log_softmax(logits):
    most = max(logits)
    total = math.log(math.fsum(math.exp(value - most) for value in logits)) + most
    return [value - total for value in logits]


def divergence(reference, other):
    """KL divergence of log probabilities."""
    return math.fsum(math.exp(p) * (p - q) for p, q in zip(reference, other))


def argmax(values):
    return max(range(len(values)), key=values.__getitem__)


def our_logits(options, model, tokens, folder, *more):
    """Rows of logits, through the program."""
    # Several of these run at once, each in a folder of its own.
    with tempfile.TemporaryDirectory(dir=folder) as own:
        return read_logits(options, model, tokens, Path(own), more)


def read_logits(options, model, tokens, folder, more):
    ids, out = folder / "ids.json", folder / "logits.safetensors"
    ids.write_text(json.dumps(tokens))
    command = [options.tidemill, "logits", "-m", str(model), "--tokens", str(ids), "-o", str(out)]
    command += ["-t", str(options.threads), *more]
    env = {**os.environ, **({"TIDEMILL_ISA": options.isa} if options.isa else {})}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        raise Trouble(done.stderr.strip())
    raw = out.read_bytes()
    header = int.from_bytes(raw[:8], "little")
    rows, columns = json.loads(raw[8 : 8 + header])["logits"]["shape"]
    start, end = json.loads(raw[8 : 8 + header])["logits"]["data_offsets"]
    return split(raw[8 + header + start : 8 + header + end], columns)


def their_logits(theirs, tokens, folder):
    out = folder / "logits.bin"
    columns = theirs.ask("logits", tokens=tokens, out=str(out))["columns"]
    return split(out.read_bytes(), columns)


def split(raw, columns):
    values = array.array("f", raw)
    return [values[at : at + columns] for at in range(0, len(values), columns)]


def judged(reference, rows):
    """Per token: divergence, and whether the most likely token is the same."""
    found = []
    for expected, row in zip(reference, rows, strict=True):
        row = log_softmax(row)
        found.append((divergence(expected, row), argmax(expected) == argmax(row)))
    return found


def spread(found):
    values = sorted(value for value, _ in found)
    return {
        "mean": statistics.fmean(values),
        "median": statistics.median(values),
        "p99": values[len(values) * 99 // 100],
        "max": values[-1],
        "same_top": sum(same for _, same in found) / len(found),
    }


def difference(ours, theirs):
    """Ours less theirs, token by token: mean and its standard error."""
    each = [mine - other for (mine, _), (other, _) in zip(ours, theirs, strict=True)]
    return {"mean": statistics.fmean(each), "error": statistics.stdev(each) / math.sqrt(len(each))}


def compare(options):
    """The whole comparison, for every type."""
    prompts = list(conversations(options.prompts))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        exact = ["--backend", "reference", "--cache-type", "f32"]
        workers = ThreadPoolExecutor(options.threads)

        def judge(model):
            """Log probabilities by plain loops, of every prompt. They use one thread each."""
            run = lambda ids: our_logits(options, model, ids, folder, *exact)
            return [[log_softmax(row) for row in logits] for logits in workers.map(run, prompts)]

        unquantised = judge(TINY)
        theirs = Theirs(options)
        for name in options.types:
            ftype = TYPES[name]
            file = folder / f"{name}.gguf"
            theirs.ask("quantize", source=str(TINY), target=str(file), ftype=ftype)
            theirs.load(str(file), False)
            theirs.open(4096, 1, True)
            found = {where: {"ours": [], "theirs": []} for where in ("same_file", "unquantised")}
            for ids, whole, same in zip(prompts, unquantised, judge(file)):
                logits = {
                    "ours": our_logits(options, file, ids, folder, "--cache-type", options.type_k),
                    "theirs": their_logits(theirs, ids, folder),
                }
                for side, each in logits.items():
                    found["same_file"][side] += judged(same, each)
                    found["unquantised"][side] += judged(whole, each)
            row = {"type": name}
            for where, sides in found.items():
                row[where] = {side: spread(each) for side, each in sides.items()}
                row[where]["difference"] = difference(sides["ours"], sides["theirs"])
            rows.append(row)
            file.unlink()
            means = {side: row["same_file"][side]["mean"] for side in ("ours", "theirs")}
            print(f"{name}: {means['ours']:.3g} against {means['theirs']:.3g}", file=sys.stderr, flush=True)
        theirs.end()
    return {"prompts": len(prompts), "tokens": sum(map(len, prompts)), "types": rows}
