"""What is trained when: five stages, each with its mix of tasks."""

from dataclasses import dataclass

from tasks import Mix


@dataclass(frozen=True)
class Stage:
    first: Mix
    hold: int  # steps of the first mix
    blend: int  # steps from there to the second mix
    second: Mix
    level_steps: int  # until lists, facts and tool sets have their full length
    turns_before: tuple[int, ...]  # how many short questions may precede a short one
    context_weight: float  # loss weight of what the model does not write itself
    warmup: int
    stable_share: float  # of the steps; then the learning rate falls linearly to nothing
    mtp_from: int = 0

    def level(self, step: int) -> float:
        return min(1.0, step / self.level_steps) if self.level_steps else 1.0

    def mix(self, step: int) -> Mix:
        share = min(1.0, max(0, step - self.hold) / self.blend)
        return tuple(a + (b - a) * share for a, b in zip(self.first, self.second, strict=True))


# In the order of tasks.TASKS: arithmetic, copying, reversing, recall, far recall, stories, json, tool call,
# tool result, no tool, chat.
FULL = (12, 5, 4, 6, 4, 4, 10, 14, 6, 3, 3)
ALL = (36, 8, 6, 10, 4, 6, 14, 16, 6, 3, 6)
SUMS = (110, 6, 5, 8, 4, 4, 10, 10, 4, 2, 4)

STAGES = {
    # Language and formats.
    1: Stage(first=(6, 14, 5, 14, 1, 5, 10, 10, 3, 2, 4), hold=0, blend=1000, second=FULL, level_steps=1000,
             turns_before=(0, 0, 1, 2, 3), context_weight=0.1, warmup=60, stable_share=1.0, mtp_from=300),
    # Copying above all: after stage 1 the model knows every format and copies nothing. 250 steps suffice.
    2: Stage(first=(4, 50, 6, 25, 0, 3, 8, 2, 1, 0, 1), hold=250, blend=350,
             second=(14, 10, 6, 12, 4, 6, 14, 12, 5, 3, 5), level_steps=0,
             turns_before=(0, 0, 1, 2, 3), context_weight=0.03, warmup=60, stable_share=1.0),
    # Everything, with many sums; then the same while the learning rate falls.
    3: Stage(first=ALL, hold=0, blend=1, second=ALL, level_steps=0,
             turns_before=(0, 1, 2, 3, 4, 6, 8), context_weight=0.03, warmup=20, stable_share=1.0),
    4: Stage(first=ALL, hold=0, blend=1, second=ALL, level_steps=0,
             turns_before=(0, 1, 2, 3, 4, 6, 8), context_weight=0.03, warmup=10, stable_share=0.0),
    # Sums above all, which stage 4 leaves at guessing; the rest so that it is not forgotten.
    5: Stage(first=SUMS, hold=0, blend=1, second=SUMS, level_steps=0,
             turns_before=(0, 1, 2, 3, 4, 6, 8), context_weight=0.03, warmup=10, stable_share=0.3),
}
