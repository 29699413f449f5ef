"""Checkpoints of other libraries: one file each turns theirs into an `SAE`; `export` writes them for SAELens.

Decoder norms are kept as they are. What is damaged, or has no counterpart here, raises a CheckpointError.
"""
