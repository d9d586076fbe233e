"""OpenAI's JavaScript client: python js_client.py path/to/tidemill FOLDER, where FOLDER has its packages."""

import pathlib
import subprocess
import sys

from serving import KEY, serving

with serving(sys.argv[1]) as base:
    check = pathlib.Path(__file__).with_name("js") / "check.mjs"
    subprocess.run(["node", check, base, KEY], cwd=sys.argv[2], check=True)
