"""What a card and the report say of the quality of the descriptions."""

import pytest
from evaluation.made_results import made_evidence, made_quality, section
from traits.made_traits import collection_of

from sae_traits.evaluation.tasks import TextQuality


def test_without_the_ledger_nothing_is_said():
    evidence = made_evidence(collection_of(["Aus bus"]), [])
    assert TextQuality().run(evidence) is None
    assert section(TextQuality(), evidence) == ""


@pytest.mark.parametrize(
    "line",
    [
        "110 calls, sent 120 times",
        "| failed, of the calls | 10 | 9.1% |",
        "Shared with another species: 25.0% of the sentences, letter for letter (20 of 80 descriptions; 5 of 40 ",
    ],
)
def test_the_report_has_the_lines_of_the_assessment(line):
    class Assessed(TextQuality):
        def run(self, evidence):
            return made_quality()

    assert line in section(Assessed(), made_evidence(collection_of(["Aus bus"]), []))


def test_the_terminal_says_how_many_sentences_tell_no_species_apart():
    assert TextQuality().lines(made_quality()) == ["sentences 25% of them are said of another species, too"]
    assert TextQuality().lines(made_quality(labelled=False)) == []
