"""Writes the files in fixtures/ with the format's own Python packages.

Needs: pip install gguf==0.19.0 safetensors==0.8.0 numpy
Run:   python crates/formats/tests/make_fixtures.py
The files are small and committed; the tests beside this script say what they must hold.
"""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent / "fixtures"


def write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def all_value_types() -> None:
    """Every metadata type, an alignment of 64, plain and quantised tensors."""
    writer = gguf.GGUFWriter(FOLDER / "python.gguf", "example")
    writer.add_custom_alignment(64)
    writer.add_uint8("test.u8", 255)
    writer.add_int8("test.i8", -128)
    writer.add_uint16("test.u16", 65535)
    writer.add_int16("test.i16", -32768)
    writer.add_uint32("test.u32", 2**32 - 1)
    writer.add_int32("test.i32", -(2**31))
    writer.add_uint64("test.u64", 2**64 - 1)
    writer.add_int64("test.i64", -(2**63))
    writer.add_float32("test.f32", 0.1)
    writer.add_float64("test.f64", 0.1)
    writer.add_bool("test.bool", True)
    writer.add_string("test.string", "grüße, 世界")
    writer.add_array("test.strings", ["a", "bc", "", "grüße"])
    writer.add_array("test.i32s", [11, 11, 10, 0])
    writer.add_array("test.f32s", [0.5, -2.0])
    writer.add_array("test.bools", [True, False, True])
    writer.add_key_value("test.u64s", [1, 2**40], GGUFValueType.ARRAY, sub_type=GGUFValueType.UINT64)

    values = np.arange(128, dtype=np.float32).reshape(2, 64) / 8
    writer.add_tensor("f32", values[:, :3].copy())
    writer.add_tensor("f16", values.astype(np.float16))
    for quant in (GGMLQuantizationType.BF16, GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0):
        writer.add_tensor(quant.name, gguf.quants.quantize(values, quant), raw_dtype=quant)
    writer.add_tensor("experts", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    write(writer)


def split() -> None:
    """Three parts of at most two tensors each."""
    writer = gguf.GGUFWriter(FOLDER / "split.gguf", "example", split_max_tensors=2)
    writer.add_uint32("example.block_count", 5)
    for index in range(5):
        writer.add_tensor(f"t{index}", np.full((2, 2), index, dtype=np.float32))
    write(writer)


def safetensors() -> None:
    tensors = {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "half": np.array([1.0, -2.0], dtype=np.float16),
        "wide": np.array([7], dtype=np.int64),
        "odd": np.array([1, 2], dtype=np.uint16),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }
    save_file(tensors, FOLDER / "python.safetensors", metadata={"format": "np"})


FOLDER.mkdir(exist_ok=True)
all_value_types()
split()
safetensors()
