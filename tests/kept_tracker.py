"""A tracker of Accelerate that remembers what it was told."""

from __future__ import annotations

from collections import defaultdict

from accelerate.tracking import GeneralTracker


class KeptTracker(GeneralTracker):
    """Keeps the values of each step, and whether it was closed."""

    name, requires_logging_directory = "kept", False

    def __init__(self):
        super().__init__()
        self.steps, self.finished = defaultdict(dict), False

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        pass

    def log(self, values, step=None, **kwargs):
        self.steps[step] |= values

    def finish(self):
        self.finished = True
