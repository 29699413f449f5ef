"""What a card and the report say of the quality of the descriptions."""

import pytest
from evaluation.made_results import made_evidence, made_quality, made_results, section
from traits.made_traits import collection_of

from sae_traits.evaluation.results import Results
from sae_traits.evaluation.tasks import TextQuality
from sae_traits.evaluation.tasks.text_quality import Figure


def test_rates_are_shares_of_what_they_are_about():
    results = made_results(quality=made_quality())
    assert results.quality == (
        Figure("called background, and left out, of the valid answers", "10.0% (9 of 90)"),
        Figure("invalid, and left out, of the answers", "10.0% (10 of 100)"),
        Figure("failed, of the calls", "9.1% (10 of 110)"),
        Figure("with the species' own name in it, of the descriptions", "2.5% (2 of 80)"),
        Figure("species and latents whose images contradict each other in colour", "25.0% (5 of 20)"),
        Figure(
            "pairs of a species' images with the same shape at the same latent (any two descriptions)",
            "75.0% (50.0%)",
        ),
        Figure("changed answers, or background, when asked again with the region of another image", "80.0% (8 of 10)"),
    )
    assert results.has_controls
    assert Results.from_json(results.to_json()) == results


def test_photographs_without_labels_leak_no_name():
    results = made_results(quality=made_quality(labelled=False, asked_again=False))
    assert [figure.name.partition(",")[0] for figure in results.quality] == ["called background", "invalid", "failed"]
    assert not results.has_controls
    assert made_results().quality == ()


def test_without_the_ledger_nothing_is_said():
    evidence = made_evidence(collection_of(["Aus bus"]), [])
    assert TextQuality().run(evidence) is None
    assert section(TextQuality(), evidence) == ""


@pytest.mark.parametrize("line", ["110 calls, sent 120 times", "| failed, of the calls | 10 | 9.1% |"])
def test_the_report_has_the_lines_of_the_assessment(line):
    class Assessed(TextQuality):
        def run(self, evidence):
            return made_quality()

    assert line in section(Assessed(), made_evidence(collection_of(["Aus bus"]), []))
