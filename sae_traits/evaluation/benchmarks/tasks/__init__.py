"""The tasks of a benchmark: one file each, behind `BenchmarkTask`."""

from __future__ import annotations

from sae_traits.evaluation.benchmarks.inputs import BenchmarkTask
from sae_traits.evaluation.benchmarks.tasks.attributes import AWA2, FISHNET
from sae_traits.evaluation.benchmarks.tasks.clustering import ClusteringTask
from sae_traits.evaluation.benchmarks.tasks.few_shot import FewShotTask
from sae_traits.evaluation.benchmarks.tasks.leaks import LeakTask
from sae_traits.evaluation.benchmarks.tasks.localisation import LocalisationTask
from sae_traits.evaluation.benchmarks.tasks.newt import NewtTask
from sae_traits.evaluation.benchmarks.tasks.retrieval import RetrievalTask
from sae_traits.evaluation.benchmarks.tasks.structure import StructureTask
from sae_traits.evaluation.benchmarks.tasks.texts import TextTask
from sae_traits.evaluation.benchmarks.tasks.zero_shot import ZeroShotTask

TASKS: dict[str, BenchmarkTask] = {
    task.name: task
    for task in (
        *(ZeroShotTask(), FewShotTask(), RetrievalTask(), StructureTask(), ClusteringTask()),
        *(NewtTask(), FISHNET, AWA2, TextTask(), LocalisationTask(), LeakTask()),
    )
}
