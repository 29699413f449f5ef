"""The tasks of an evaluation: one file each, behind `EvaluationTask`, in the order of the report."""

from __future__ import annotations

from sae_traits.evaluation.tasks.base import EvaluationTask
from sae_traits.evaluation.tasks.localisation import Localisation
from sae_traits.evaluation.tasks.parts import Parts
from sae_traits.evaluation.tasks.species_traits import SpeciesTraits
from sae_traits.evaluation.tasks.text_quality import TextQuality
from sae_traits.evaluation.tasks.zero_shot import ZeroShot

TASKS: tuple[EvaluationTask, ...] = (
    SpeciesTraits(),
    TextQuality(),
    Localisation(),
    Parts(),
    ZeroShot(),
)
