"""async-openai, OpenAI's API in Rust: python rust_client.py path/to/tidemill TARGET, where TARGET is for its build."""

import pathlib
import subprocess
import sys

from serving import KEY, serving

with serving(sys.argv[1]) as base:
    manifest = pathlib.Path(__file__).with_name("rust") / "Cargo.toml"
    command = [
        "cargo",
        "run",
        "--quiet",
        "--locked",
        "--manifest-path",
        manifest,
        "--target-dir",
        sys.argv[2],
        "--",
        base,
        KEY,
    ]
    subprocess.run(command, check=True)
