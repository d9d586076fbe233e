"""Measures a model file through Tidemill and through llama.cpp, in turn and in one run.

    python bench/compare -m FILE... --peer-python llamacpp/bin/python

Both stay loaded; each repetition of the one is followed by one of the other, so that what the
machine does beside hits both. llama.cpp gets its better setting for each test: run-time repacking
on or off, flash attention on or off, found out first. Results are medians and ratios of medians.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from dataclasses import asdict, dataclass, field

import quality
import report
import sides
from sides import Ours, Theirs, Trouble

# Deeper prompts would take minutes for each setting that is tried.
CALIBRATION_DEPTH = 4096


@dataclass(frozen=True)
class Case:
    """One test, by the name that `tidemill bench` gives it."""

    kind: str  # prefill or decode
    tokens: int
    depth: int
    sequences: int = 1

    @property
    def name(self):
        name = f"pp{self.tokens}" if self.kind == "prefill" else f"tg{self.tokens}"
        name += f" x{self.sequences}" if self.sequences > 1 else ""
        return name + (f" @ d{self.depth}" if self.depth else "")


@dataclass(frozen=True)
class Setting:
    """How llama.cpp is set."""

    repack: bool
    flash: bool

    def __str__(self):
        on = lambda value: "on" if value else "off"
        return f"repack {on(self.repack)}, flash attention {on(self.flash)}"


@dataclass
class Result:
    """What came of a case: tokens per second of each round."""

    case: Case
    setting: Setting
    # At which depth the setting was found to be the better one; None if it was given.
    found_at: int | None = None
    ours: list = field(default_factory=list)
    theirs: list = field(default_factory=list)
    bandwidth: list = field(default_factory=list)
    record: dict = field(default_factory=dict)

    def doubt(self):
        """Behind more tokens than were tried, another setting may be the better one."""
        if self.found_at is None or self.case.depth <= self.found_at:
            return ""
        return f" (the better one at {self.found_at})"

    def summary(self):
        ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
        pairs = [mine / other for mine, other in zip(self.ours, self.theirs)]
        found = {
            "test": self.case.name,
            **asdict(self.case),
            "setting": str(self.setting) + self.doubt(),
            "ours": ours,
            "theirs": theirs,
            "ratio": ours / theirs,
            "ratio_min": min(pairs),
            "ratio_max": max(pairs),
            "samples_ours": self.ours,
            "samples_theirs": self.theirs,
        }
        bytes_per_token = self.record.get("bytes_per_token")
        if bytes_per_token and self.bandwidth:
            bandwidth = statistics.median(self.bandwidth)
            found["bytes_per_token"] = bytes_per_token
            found["read_bandwidth"] = bandwidth
            found["bandwidth_fraction"] = ours * bytes_per_token / bandwidth
            found["theirs_bandwidth_fraction"] = theirs * bytes_per_token / bandwidth
        macs = self.record.get("macs_per_token")
        if macs:
            found["macs_per_second"] = macs * ours
        return found


def arguments():
    parser = argparse.ArgumentParser(
        prog="bench/compare", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    numbers = lambda text: [int(part) for part in text.split(",")]
    names = lambda text: text.split(",")
    add = parser.add_argument
    add("-m", "--model", nargs="+", default=[], metavar="FILE", help="GGUF files")
    add("-p", "--prompt", type=int, default=512, metavar="N", help="tokens of a prompt (512)")
    add("-n", "--generate", type=int, default=64, metavar="N", help="tokens of an answer (64)")
    add("-d", "--depths", type=numbers, default=[0, 4096, 16384], metavar="N,N", help="(0,4096,16384)")
    add("-s", "--sequences", type=int, default=8, metavar="N", help="that decode together (8)")
    add("-t", "--threads", type=int, default=os.cpu_count(), metavar="N", help="(all)")
    add("-r", "--rounds", type=int, default=5, metavar="N", help="at least 3 (5)")
    add("-ub", "--ubatch", type=int, default=512, metavar="N", help="(512)")
    add("-ctk", "--type-k", default="f16", metavar="TYPE", help="of keys (f16)")
    add("-ctv", "--type-v", default="f16", metavar="TYPE", help="of values (f16)")
    add(
        "--tests",
        type=names,
        default=["decode", "prefill", "batch", "load"],
        metavar="NAME,NAME",
        help="which of decode, prefill, batch, load (all)",
    )
    add("--setting", metavar="REPACK,FLASH", help="of llama.cpp, such as off,on, instead of the better")
    add("--calibration", metavar="FILE", help="where to keep the better settings from run to run")
    add("--calibration-depth", type=int, default=CALIBRATION_DEPTH, metavar="N",
        help=f"the deepest at which settings are tried ({CALIBRATION_DEPTH})")
    add("--isa", help="instruction set for us (TIDEMILL_ISA), such as avx2")
    add("--tidemill", default="target/release/tidemill", metavar="PATH")
    add("--peer-python", default=sides.python(), metavar="PATH", help="that has llama_cpp")
    add("--quality", action="store_true", help="compare logits on the tiny model, not speed")
    add("--types", type=names, default=list(quality.TYPES), metavar="NAME,NAME", help="for --quality (all)")
    add("--prompts", type=int, default=24, metavar="N", help="for --quality (24)")
    add("-o", "--output", choices=["md", "json"], default="md")
    options = parser.parse_args()
    unknown = set(options.tests) - {"decode", "prefill", "batch", "load"}
    if unknown:
        parser.error(f"--tests: there is no {', '.join(sorted(unknown))}")
    unknown = set(options.types) - set(quality.TYPES)
    if unknown:
        parser.error(f"--types: there are {', '.join(quality.TYPES)}")
    if options.rounds < 3:
        parser.error("-r: fewer than 3 rounds say nothing")
    if not options.model and not options.quality:
        parser.error("-m: name at least one GGUF file")
    return options


def say(text):
    print(text, file=sys.stderr, flush=True)


def planned(options):
    cases = []
    for depth in options.depths:
        if "prefill" in options.tests:
            cases.append(Case("prefill", options.prompt, depth))
        if "decode" in options.tests:
            cases.append(Case("decode", options.generate, depth))
    if "batch" in options.tests:
        cases.append(Case("decode", options.generate, options.depths[0], options.sequences))
    return cases


def context_for(options, case):
    longest = max(options.depths) if case.sequences == 1 else case.depth
    return longest + max(options.prompt, options.generate) + 64


def settings(options):
    if not options.setting:
        return [Setting(*pair) for pair in itertools.product([False, True], [True, False])]
    words = options.setting.split(",")
    if len(words) != 2 or not set(words) <= {"on", "off"}:
        raise Trouble(f"--setting {options.setting}: write off,on for repack off, flash attention on")
    return [Setting(*(word == "on" for word in words))]


class Calibration:
    """The better settings found so far, in a file if one is named."""

    def __init__(self, path):
        self.path = path
        self.found = {}
        if path and os.path.exists(path):
            with open(path) as file:
                self.found = json.load(file)

    def get(self, model, case):
        pair = self.found.get(f"{model}: {case.name}")
        return Setting(*pair) if pair else None

    def put(self, model, case, setting):
        self.found[f"{model}: {case.name}"] = [setting.repack, setting.flash]
        if self.path:
            with open(self.path, "w") as file:
                json.dump(self.found, file, indent=1)


def calibrate(options, model, cases):
    """Which setting is llama.cpp's better one for each case."""
    tried = settings(options)
    if len(tried) == 1:
        return {case: tried[0] for case in cases}
    shallow = {}
    for case in cases:
        depth = min(case.depth, options.calibration_depth)
        tokens = case.tokens if case.kind == "prefill" else min(case.tokens, 16)
        shallow[case] = Case(case.kind, tokens, depth, case.sequences)
    seconds = {}
    known = Calibration(options.calibration)
    if all(known.get(model, shallow[case]) in tried for case in cases):
        return {case: known.get(model, shallow[case]) for case in cases}
    theirs = Theirs(options)
    for repack in (False, True):
        theirs.load(model, repack)
        for flash in (True, False):
            for case in sorted(set(shallow.values()), key=lambda case: (case.sequences, case.depth)):
                context = options.calibration_depth + options.prompt + options.generate
                theirs.open(context if case.sequences == 1 else context_for(options, case), case.sequences, flash)
                # The first one warms up; the best of the others is what it can do.
                runs = [theirs.run(case) for _ in range(3)][1:]
                setting = Setting(repack, flash)
                seconds[case, setting] = min(runs)
                rate = case.tokens * case.sequences / min(runs)
                say(f"llama.cpp, {case.name}, {setting}: {rate:.1f}")
    theirs.end()
    best = {}
    for case in cases:
        best[case] = min(tried, key=lambda setting: seconds[shallow[case], setting])
        known.put(model, shallow[case], best[case])
    return best


def measure(options, model):
    """All cases of a model."""
    cases = planned(options)
    results = {}
    if cases:
        best = calibrate(options, model, cases)
        ours, theirs, repack = Ours(options, model), Theirs(options), None
        order = lambda case: (best[case].repack, case.sequences, best[case].flash, case.depth)
        for case in sorted(cases, key=order):
            setting = best[case]
            if repack != setting.repack:
                repack = setting.repack
                theirs.load(model, repack)
            theirs.open(context_for(options, case), case.sequences, setting.flash)
            results[case] = alternate(options, case, setting, ours, theirs)
        ours.end()
        theirs.end()
    found = {
        "model": model,
        "results": [results[case].summary() for case in cases],
        "machine": next((results[case].record for case in cases), {}),
    }
    if "load" in options.tests:
        found["load"] = loads(options, model)
    return found


def alternate(options, case, setting, ours, theirs):
    """The rounds of one case."""
    found_at = None if options.setting else options.calibration_depth
    result = Result(case, setting, found_at)
    tokens = case.tokens * case.sequences
    # Once each without counting: depths are filled, threads and memory are warm.
    ours.run(case)
    theirs.run(case)
    for round in range(options.rounds):

        def mine():
            record = ours.run(case)
            result.record = record
            result.ours.append(tokens / (record["samples_ns"][0] / 1e9))

        def other():
            result.theirs.append(tokens / theirs.run(case))

        # Who is first changes, so that a drift of the machine favours nobody.
        for side in (mine, other) if round % 2 == 0 else (other, mine):
            time.sleep(0.02)
            side()
        if case.kind == "decode":
            result.bandwidth.append(ours.bandwidth())
    summary = result.summary()
    say(f"{case.name}: {summary['ours']:.2f} against {summary['theirs']:.2f}: {summary['ratio']:.2f}")
    return result


def loads(options, model):
    """Milliseconds from the path to the first token, file in the system's cache."""
    samples = {"ours": [], "theirs, repack off": [], "theirs, repack on": []}
    for round in range(options.rounds + 1):
        found = {
            "ours": sides.our_first_token(options, model),
            "theirs, repack off": sides.their_first_token(options, model, False),
            "theirs, repack on": sides.their_first_token(options, model, True),
        }
        # The first round brings the file into the cache.
        if round > 0:
            for side, milliseconds in found.items():
                samples[side].append(milliseconds)
    return {side: {"median_ms": statistics.median(each), "samples_ms": each} for side, each in samples.items()}


def main():
    options = arguments()
    try:
        if options.quality:
            found = quality.compare(options)
            print(json.dumps(found, indent=2) if options.output == "json" else report.quality(found))
            return 0
        theirs = Theirs(options)
        about = theirs.about
        theirs.end()
        found = [measure(options, os.path.abspath(model)) for model in options.model]
    except Trouble as trouble:
        say(f"error: {trouble}")
        return 1
    whole = {
        "llama_cpp": about,
        "threads": options.threads,
        "rounds": options.rounds,
        "isa": options.isa,
        "models": found,
    }
    print(json.dumps(whole, indent=2) if options.output == "json" else report.speed(whole))
    return 0


if __name__ == "__main__":
    sys.exit(main())
