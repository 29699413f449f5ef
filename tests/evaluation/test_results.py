"""One object of results: written, read back, and asked by cards and terminals."""

import dataclasses
import json
import math
from typing import ClassVar

import pytest
from evaluation.made_results import interval, made_evidence, made_quality, made_results, made_zero_shot
from traits.made_traits import collection_of, described, trait_of

from sae_traits.errors import StoreError
from sae_traits.evaluation.evidence import StoredTraits
from sae_traits.evaluation.results import Results, read_results, run_tasks
from sae_traits.evaluation.statistics import Interval
from sae_traits.evaluation.tasks import TASKS
from sae_traits.evaluation.zero_shot_results import NAME_ONLY, RandomDeals
from sae_traits.traits.table import write_traits


@dataclasses.dataclass(frozen=True)
class CountResult:
    n_traits: int
    share: Interval


class Count:
    """A task from outside."""

    name: ClassVar = "count"
    heading: ClassVar = "A count"
    result: ClassVar = CountResult

    def run(self, evidence):
        return CountResult(sum(1 for _ in evidence.traits), Interval(math.nan, math.nan, math.nan))

    def lines(self, result):
        return [f"{result.n_traits} traits"]


def test_what_is_written_is_read_back():
    results = made_results(on_animal=interval(0.9), random=interval(0.2), zero_shot=made_zero_shot())
    text = results.to_json()
    assert json.loads(text)["schema_version"] == 4
    assert Results.from_json(text) == results
    assert Results.from_json(text).to_json() == text


def test_nan_is_null_and_null_is_nan():
    alone = Interval(0.5, math.nan, math.nan, 1)
    text = made_results(on_animal=alone, random=alone).to_json()
    assert json.loads(text, parse_constant=pytest.fail)["tasks"]["localisation"]["on_animal"]["low"] is None
    found = Results.from_json(text).tasks["localisation"].on_animal
    assert str(found) == "0.500"
    assert math.isnan(found.low)


def test_a_file_of_traits_is_read_anew_by_every_task(tmp_path):
    collection = collection_of(["Aus bus"] * 2)
    traits = [trait_of(row, 3, described(colour="red")) for row in range(2)]
    write_traits(tmp_path / "traits.parquet", traits)
    evidence = made_evidence(collection, StoredTraits(tmp_path / "traits.parquet"))
    results = run_tasks(evidence, [*TASKS, Count(), Count()])
    assert results.tasks == run_tasks(made_evidence(collection, traits)).tasks
    assert results.extra["count"].values == {
        "n_traits": 2, "share": {"mean": None, "low": None, "high": None, "n_groups": 0},
    }  # fmt: skip
    assert Results.from_json(results.to_json()).extra["count"].lines == ("2 traits",)
    assert run_tasks(evidence, [Count()]).tasks == {}


def test_the_terminal_gets_a_line_per_verdict():
    results = made_results(on_animal=interval(0.9), random=interval(0.2), zero_shot=made_zero_shot())
    results = dataclasses.replace(results, extra=run_tasks(made_evidence(collection_of(["A b"]), []), [Count()]).extra)
    assert results.lines() == [
        "regions   0.900 [0.800, 1.000] of their area on the organism, against 0.200 [0.100, 0.300] at random places",
        "zero-shot name only 0.300 [0.200, 0.400], name + traits 0.350 [0.250, 0.450]",
        "",
        "A count",
        "",
        "0 traits",
    ]
    assert made_results().lines() == []


def test_the_terminal_says_that_a_comparison_means_nothing_without_entities():
    by_chance = made_zero_shot(names_p_value=0.9, dealt=RandomDeals(top1=(0.3,), over_species=interval(0), p_value=0.9))
    lines = made_results(zero_shot=by_chance, quality=made_quality()).lines()
    (verdict,) = [line.strip() for line in lines if "Neither" in line]
    assert verdict.startswith("Neither names nor traits recognise species better")
    assert verdict.endswith("The comparison means nothing.")
    assert "2 classes are too few" in made_results(zero_shot=made_zero_shot(n_classes=2)).lines()[1]
    assert (
        "The names alone"
        in made_results(
            zero_shot=made_zero_shot(
                names_p_value=0.2, dealt=RandomDeals(top1=(0.3,), over_species=interval(0), p_value=0.01)
            )
        ).lines()[1]
    )
    assert not any("&#" in line for line in lines)


def test_of_the_zero_shot_evaluation_no_place_on_this_machine_is_named():
    found = made_results(
        zero_shot=made_zero_shot(model={"model": "/home/ann/bioclip", "revision": "sha256:01"})
    ).zero_shot
    assert found is not None
    assert (found.clip, found.chance) == ("bioclip", 1 / 16)
    assert found.top1(NAME_ONLY) == interval(0.3)
    assert found.top1("another") is None


def test_without_an_evaluation_there_are_no_results(tmp_path):
    assert read_results(tmp_path / "evaluation" / "results.json") is None


WHOLE = json.loads(made_results().to_json())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema_version": 4}',
        json.dumps(WHOLE | {"schema_version": 0}),
        json.dumps(WHOLE | {"tasks": {"of a later version": {}}}),
        json.dumps(WHOLE | {"tasks": {"zero_shot": {}}}),
    ],
)
def test_a_file_of_another_version_is_one_clear_error(tmp_path, text):
    file = tmp_path / "evaluation" / "results.json"
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(StoreError, match=r"^cannot read .*results\.json .*sae-traits evaluate .*again$"):
        read_results(file)
