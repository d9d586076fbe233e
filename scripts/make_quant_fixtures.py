#!/usr/bin/env python3
"""Writes the expected results of decoding and encoding quantised blocks, by the gguf package.

    python scripts/make_quant_fixtures.py      # rewrites crates/tensor/tests/fixtures/quant/

One file per type, little-endian: a count, the stored bytes of that many values and the values as f32
(what decoding must give), then another count, that many f32 values and their stored bytes (what
encoding must give; the count is 0 where the package has no encoder). The package is the oracle for
the bit layouts, so its version is fixed; reruns write the same bytes.
"""

import zlib
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T

GGUF_VERSION = "0.19.0"
OUT = Path(__file__).parent.parent / "crates/tensor/tests/fixtures/quant"
BLOCKS = 8

# Where a block keeps its half-precision scales, by byte offset.
F16_SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
    T.IQ1_S: [0], T.IQ1_M: [], T.IQ2_XXS: [0], T.IQ2_XS: [0], T.IQ2_S: [0],
    T.IQ3_XXS: [0], T.IQ3_S: [0], T.IQ4_NL: [0], T.IQ4_XS: [0],
    T.TQ1_0: [52], T.TQ2_0: [64], T.MXFP4: [], T.NVFP4: [],
}  # fmt: skip
PLAIN = [T.F32, T.F16, T.BF16]
ENCODED = [T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.TQ1_0, T.TQ2_0, T.MXFP4]


def stored_bytes(dtype, rng):
    """Half of the blocks with scales as models have them, half of them noise."""
    if dtype in PLAIN:
        return rng.bytes(64 * GGML_QUANT_SIZES[dtype][1])
    blocks = rng.integers(0, 256, (2 * BLOCKS, GGML_QUANT_SIZES[dtype][1]), dtype=np.uint8)
    sane = blocks[:BLOCKS]
    for offset in F16_SCALES[dtype]:
        scales = rng.normal(0, 0.01, (BLOCKS, 1)).astype("<f2")
        sane[:, offset : offset + 2] = scales.view(np.uint8)
    if dtype == T.IQ1_M:  # the top nibbles of four words: keep the exponent's first bit clear
        sane[:, 55] &= 0xBF
    if dtype == T.MXFP4:
        sane[:, 0] = rng.integers(110, 135, BLOCKS)
    return blocks.tobytes()


def values_to_encode(dtype, rng):
    """Rows of the kinds that are easily got wrong, besides ordinary ones."""
    n = max(GGML_QUANT_SIZES[dtype][0], 32)
    rows = [rng.normal(0, scale, n) for scale in (1e-4, 0.02, 1, 300)]
    rows.append(np.zeros(n))
    rows.append(-np.abs(rng.normal(0, 1, n)))  # one-sided
    rows.append(rng.integers(-8, 9, n) / 2)  # ties in rounding, several largest magnitudes
    rows.append(np.where(np.arange(n) == n - 1, -50, rng.normal(0, 0.1, n)))  # an outlier at the end
    if dtype in PLAIN:
        rows.append(np.resize([np.inf, -np.inf, np.nan, -0.0, 1e-7, -3e-8, 65519.9, 65520, 1e38], n))
    return np.concatenate(rows).astype("<f4")


def main():
    if version("gguf") != GGUF_VERSION:
        raise SystemExit(f"needs gguf {GGUF_VERSION}, found {version('gguf')}")
    OUT.mkdir(parents=True, exist_ok=True)
    for dtype in [*PLAIN, *F16_SCALES]:
        rng = np.random.default_rng(zlib.crc32(dtype.name.encode()))
        with np.errstate(all="ignore"):
            stored = np.frombuffer(stored_bytes(dtype, rng), np.uint8)
            decoded = gguf.quants.dequantize(stored, dtype)
            values = values_to_encode(dtype, rng) if dtype in ENCODED else np.empty(0, "<f4")
            encoded = gguf.quants.quantize(values, dtype) if dtype in ENCODED else b""
        path = OUT / f"{dtype.name.lower()}.bin"
        with path.open("wb") as file:
            file.write(np.uint32(decoded.size).tobytes() + stored.tobytes() + decoded.tobytes())
            file.write(np.uint32(values.size).tobytes() + values.tobytes() + bytes(encoded))
        print(f"{path.name}: {decoded.size} decoded, {values.size} encoded")


if __name__ == "__main__":
    main()
