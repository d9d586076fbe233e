"""A running `tidemill serve` with the tiny model."""

import os
import re
import subprocess


class Server:
    """Starts the program that TIDEMILL names; `url` is where it listens."""

    def __init__(self, *options, port=0):
        self.process = subprocess.Popen(
            [os.environ["TIDEMILL"], "serve", "--port", str(port), "--drain-timeout", "0", *options],
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in self.process.stderr:
            found = re.search(r"listening on (http://\S+:(\d+))", line)
            if found:
                self.url, self.port = found[1], int(found[2])
                return
        raise RuntimeError("the server did not start")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=30)
        self.process.stderr.close()
