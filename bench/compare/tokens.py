"""The made-up prompts of `tidemill bench` (crates/cli/src/bench/tokens.rs), for other engines."""

MASK = (1 << 64) - 1


class Tokens:
    """A stream of token ids below `vocabulary`, by SplitMix64."""

    def __init__(self, stream, vocabulary):
        self.state = (stream << 32) & MASK
        self.vocabulary = vocabulary

    def take(self, count):
        return [self.next() for _ in range(count)]

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        word = self.state
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
        return (word ^ (word >> 31)) % self.vocabulary


# Streams from here on fill sequences up to a depth; those below are repetitions.
DEPTH_STREAM = 1 << 20
