"""What a card and the report say of the quality of the descriptions."""

import pytest
from evaluation.made_results import made_evidence, made_quality, section
from traits.made_traits import collection_of

from sae_traits.describers.excerpts import Example, printable
from sae_traits.evaluation.tasks import TextQuality
from sae_traits.traits.faithfulness import Faithfulness, FaithfulnessScore


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


def test_what_a_model_wrote_is_escaped_for_a_report_and_printable_for_a_terminal():
    said = "red & <b>blue</b> \x1b[31m\u202ewing"
    score = FaithfulnessScore(
        kind="blank", n_asked=1, n_answered=1, n_changed=0, n_background=0, kept=1.0,
        unchanged=(Example(trait_ids=("a_1",), reason="it's the same", said=said),),
    )  # fmt: skip
    scores = Faithfulness(n_traits=1, n_open=0, scores=(score,))
    assert "red &#38; &#60;b&#62;blue" in scores.lines()[-1]
    assert scores.lines(printable)[-1] == "- a_1 (it's the same): “red & <b>blue</b>  [31m wing”"
