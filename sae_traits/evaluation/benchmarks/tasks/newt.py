"""Binary questions about images (NeWT): one support vector machine per question on frozen embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sae_traits.errors import CollectionError
from sae_traits.evaluation.benchmarks.inputs import (
    EmbeddedImages,
    Figures,
    Inputs,
    Outcome,
    Score,
    percent,
    percent_interval,
    score_of,
)
from sae_traits.evaluation.measures.svm import newt_task


@dataclass(frozen=True, kw_only=True)
class Question:
    """How well one question is answered."""

    name: str
    n_train: int
    n_test: int
    accuracy: float
    chance: float
    """Of the label that most training images have."""


@dataclass(frozen=True, kw_only=True)
class NewtScores:
    """How well binary questions are answered."""

    task: Literal["newt"] = "newt"
    svm: Literal["linear", "published"]
    n_images: int
    """Test images of all questions."""
    accuracy: Score
    """Of all test images together, as NeWT is scored; `classes` resamples questions whole."""
    chance: float
    questions: tuple[Question, ...]


class NewtTask:
    """Trains on the split train of every question, and scores its split test."""

    name, title, result = "newt", "Binary questions", NewtScores
    needs_clip, needs_models, head = False, True, "taxonomy"

    def check(self, inputs: Inputs) -> None:
        """Refuse images without a question, and questions that cannot be learnt or scored."""
        if missing := [row for row in inputs.rows if row.question is None]:
            raise CollectionError(
                f"newt needs a table with the column `task`, the question that a label answers; {missing[0].where} "
                "says none"
            )
        for question in sorted({str(row.question) for row in inputs.rows}):
            of_split = {
                split: {row.label for row in inputs.rows if row.question == question and row.split == split}
                for split in ("train", "test")
            }
            if len(of_split["train"]) != 2 or not of_split["test"]:
                raise CollectionError(
                    f"the question {question!r} has {len(of_split['train'])} labels in train and "
                    f"{len(of_split['test'])} in test; it needs two labels in train, and images in test"
                )

    def run(self, inputs: Inputs, model: EmbeddedImages) -> Outcome:
        """Answer every question."""
        names, question = np.unique([str(row.question) for row in inputs.rows], return_inverse=True)
        is_train = np.array([row.split == "train" for row in inputs.rows])
        is_test = np.array([row.split == "test" for row in inputs.rows])
        credit, chances = (np.full(len(inputs.rows), np.nan) for _ in range(2))
        questions = []
        for number, name in enumerate(names.tolist()):
            train, test = (np.flatnonzero((question == number) & of) for of in (is_train, is_test))
            rows = np.concatenate([train, test])
            found = newt_task(
                model.images[rows],
                inputs.truth[rows],
                np.arange(len(rows)) < len(train),
                protocol=inputs.config.svm,
                seed=inputs.config.seed,
                n_jobs=max(1, inputs.config.workers),
            )
            labels, counts = np.unique(inputs.truth[train], return_counts=True)
            # of two labels that are equally common either one would do
            shares = (counts == counts.max()) / (counts == counts.max()).sum()
            credit[test] = found.right
            chances[test] = (inputs.truth[test][:, None] == labels) @ shares
            questions.append(
                Question(
                    name=name,
                    n_train=len(train),
                    n_test=len(test),
                    accuracy=float(credit[test].mean()),
                    chance=float(chances[test].mean()),
                )
            )
        result = NewtScores(
            svm=inputs.config.svm,
            n_images=int(np.isfinite(credit).sum()),
            accuracy=score_of(credit, inputs, question),
            chance=float(np.nanmean(chances)),
            questions=tuple(questions),
        )
        return Outcome(result, credit, question)

    def figures(self, result: NewtScores) -> Figures:
        mean = float(np.mean([each.accuracy for each in result.questions]))
        return result.accuracy.figures("accuracy", "questions") | {"mean of the questions": mean}

    def sentence(self, name: str, result: NewtScores) -> str:
        return (
            f"With {name} {percent_interval(result.accuracy.individuals)} of {result.n_images:,} images of "
            f"{len(result.questions):,} questions are answered right, where the commonest label is right for "
            f"{percent(result.chance)}."
        )

    def notes(self, result: NewtScores) -> list[str]:
        """Say that a linear machine is not what was published."""
        if result.svm == "published":
            return []
        return [
            "not comparable with published scores of NeWT: the machines here are linear with C = 1, the published ones "
            "search kernel, C and gamma in 500 fits per question (--svm published)"
        ]
