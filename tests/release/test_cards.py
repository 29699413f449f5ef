"""The one section of a card that a person may write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis.strategies import text

from sae_traits.errors import ReleaseError
from sae_traits.release.cards import BEGINS, ENDS, keep_section, marked_section

CARD = f"---\nlicense: mit\n---\n\n# Moths\n\n{BEGINS}\n{ENDS}\n\n## Citation\n"


def with_section(section: str) -> str:
    return CARD.replace(ENDS, f"{section}\n{ENDS}")


@given(text().filter(lambda section: section.strip("\n") and "\r" not in section and BEGINS not in section))
def test_any_section_goes_into_the_next_card_as_it_is(section: str):
    again = keep_section(CARD, with_section(section), "org/moths")
    assert again == with_section(section.strip("\n"))
    assert keep_section(CARD, again, "org/moths") == again


def test_without_a_section_the_new_card_replaces_the_old_one():
    assert keep_section(CARD, CARD.replace("# Moths", "# My moths"), "org/moths") == CARD
    assert keep_section(CARD, "", "org/moths") == CARD
    assert marked_section(None) == f"{BEGINS}\n{ENDS}"


def test_a_card_that_was_written_by_hand_becomes_the_section():
    by_hand = "\ufeff---\r\nlicense: odbl\r\n---\r\n# My moths\r\n\r\nHello.\r\n"
    assert keep_section(CARD, by_hand, "org/moths") == with_section("# My moths\n\nHello.")
    assert keep_section("# By hand\n", with_section("Theirs."), "org/moths") == "# By hand\n"


def test_of_two_different_sections_that_of_the_hub_is_kept_with_a_warning(caplog):
    caplog.set_level("INFO", logger="sae_traits")
    found = keep_section(with_section("Here."), with_section("On the Hub."), "org/moths")
    assert found == with_section("On the Hub.")
    assert "warning: your section of the card differs from that of org/moths" in caplog.text
    caplog.clear()
    assert keep_section(with_section("Here."), CARD, "org/moths") == with_section("Here.")
    assert keep_section(with_section("Same."), with_section("Same."), "org/moths") == with_section("Same.")
    assert caplog.text == ""


@pytest.mark.parametrize("gone", [BEGINS, ENDS])
def test_a_card_that_has_lost_a_mark_is_refused_and_nothing_is_dropped(gone: str):
    with pytest.raises(ReleaseError, match=r"^org/moths: the card does not have each of the comments .*run again$"):
        keep_section(CARD, with_section("Theirs.").replace(gone, ""), "org/moths")


def test_marks_in_the_wrong_order_are_refused():
    with pytest.raises(ReleaseError, match="once and in this order"):
        marked_section(f"{ENDS}\nTheirs.\n{BEGINS}\n")
