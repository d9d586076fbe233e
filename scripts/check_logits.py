#!/usr/bin/env python3
"""Compares a file of logits with a golden: prints the largest difference, fails above the bound.

    python scripts/check_logits.py --golden crates/model/tests/goldens/moe_text --logits ours.safetensors

The file holds `logits` [T, V] in F32 for the first T tokens of the golden's prompt.json.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

BOUND = 5e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=Path, required=True, help="golden directory")
    parser.add_argument("--logits", type=Path, required=True, help="safetensors file with `logits`")
    parser.add_argument("--against", default="logits", help="tensor of golden.safetensors, e.g. yarn_logits")
    parser.add_argument("--bound", type=float, default=BOUND)
    arguments = parser.parse_args()

    want = load_file(arguments.golden / "golden.safetensors")[arguments.against]
    got = load_file(arguments.logits)["logits"]
    if got.ndim != 2 or got.shape[1] != want.shape[1] or not 0 < got.shape[0] <= want.shape[0]:
        sys.exit(f"logits have shape {got.shape}, the golden has {want.shape}")
    want = want[: len(got)].astype(np.float64)
    got = got.astype(np.float64)
    if not np.isfinite(got).all():
        sys.exit("logits are not all finite")
    difference = np.abs(got - want)
    row, column = np.unravel_index(difference.argmax(), difference.shape)
    log_p, log_q = (x - np.logaddexp.reduce(x, axis=1, keepdims=True) for x in (want, got))
    divergence = (np.exp(log_p) * (log_p - log_q)).sum(1)
    agree = (got.argmax(1) == want.argmax(1)).mean()
    print(
        f"max abs difference {difference.max():.3e} (token {row}, logit {column}), "
        f"rms {np.sqrt((difference**2).mean()):.3e}, mean KL {divergence.mean():.3e}, "
        f"top-1 agreement {agree:.1%} over {len(got)} tokens"
    )
    if difference.max() > arguments.bound:
        sys.exit(f"above the bound of {arguments.bound:g}")


if __name__ == "__main__":
    main()
