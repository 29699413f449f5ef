"""What a run is tried on: a drawn world, its truth and its CLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sae_traits.evaluation.tasks.base import EvaluationTask


def extra_tasks() -> tuple[EvaluationTask, ...]:
    """What every evaluation scores, besides the tasks of all collections: a drawn one against its truth."""
    from sae_traits.testbench.truth import DrawnTruth

    return (DrawnTruth(),)
