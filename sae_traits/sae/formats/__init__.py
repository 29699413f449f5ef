"""Checkpoints of other libraries: one file each turns theirs into an `SAE`; `export` writes them for SAELens."""
