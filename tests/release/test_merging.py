"""Cards that people edit: theirs stays, ours is written anew, and doing it twice changes nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis.strategies import booleans, composite, dictionaries, integers, lists, sampled_from, text, tuples

from sae_traits.errors import ReleaseError
from sae_traits.release.merging import edited_sections, keep_own_parts, mark_sections, merge_cards

FRONT = {"license": "mit", "tags": ["biology"], "configs": [{"config_name": "default"}]}
BODY = "# Moths\n\nTraits.\n\n## Load it\n\n```python\n## no heading\n```\n\n## Limits\n\n- One.\n"
CARD = mark_sections(FRONT, BODY)
NEW = mark_sections(FRONT | {"license": "cc0-1.0"}, BODY.replace("One", "Two").replace("Moths", "More moths"))


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---\n")[1])


def headings(card: str) -> list[str]:
    return re.findall(r"^#{1,2} (.*)", re.sub(r"```.*?```", "", card, flags=re.DOTALL), re.MULTILINE)


def inserted(card: str, after: str, own: str) -> str:
    """What a person types below a section."""
    end = f"<!-- sae-traits: end {after} -->\n"
    assert end in card
    return card.replace(end, f"{end}\n{own}\n")


def claimed(card: str, name: str) -> str:
    """A section without the two comments around it."""
    return re.sub(rf"<!-- sae-traits: (begin|end) {name}[^>]*-->\n", "", card)


def test_a_generated_card_has_a_mark_around_every_section():
    assert re.findall(r"sae-traits: begin ([a-z-]+)", CARD) == ["top", "load-it", "limits"]
    assert edited_sections(CARD) == []


def test_without_a_person_the_new_card_replaces_the_old_one():
    assert merge_cards(NEW, CARD) == NEW
    assert merge_cards(CARD, CARD) == CARD
    assert merge_cards("no card of ours", CARD) == "no card of ours"


def test_a_section_of_a_person_stays_where_it_stood():
    edited = inserted(CARD, "load-it", "## Where the moths were caught\n\nAt night.")
    merged = merge_cards(NEW, edited)
    assert headings(merged) == ["More moths", "Load it", "Where the moths were caught", "Limits"]
    assert "At night." in merged
    assert "- Two." in merged
    assert "- One." not in merged
    assert front_matter(merged)["license"] == "cc0-1.0"


def test_text_before_the_first_section_and_after_the_last_one_stays():
    edited = CARD.replace("<!-- sae-traits: begin top", "A note.\n\n<!-- sae-traits: begin top") + "\nThe end.\n"
    merged = merge_cards(NEW, edited)
    assert merged.index("A note.") < merged.index("# More moths")
    assert merged.endswith("<!-- sae-traits: end limits -->\n\nThe end.\n")


def test_what_followed_a_section_that_is_gone_follows_the_one_before_it():
    edited = inserted(CARD, "limits", "Mine.")
    shorter = mark_sections(FRONT, BODY.split("## Limits")[0])
    assert merge_cards(shorter, edited) == shorter + "\nMine.\n"


def test_a_section_that_was_taken_over_stays_and_is_not_written_again():
    edited = claimed(CARD, "limits").replace("- One.", "- My own limit.")
    merged = merge_cards(NEW, edited)
    assert headings(merged) == ["More moths", "Load it", "Limits"]
    assert "- My own limit." in merged
    assert "- Two." not in merged
    assert merge_cards(NEW, merged) == merged


def test_a_persons_section_with_a_heading_of_ours_does_not_push_ours_away():
    edited = inserted(CARD, "limits", "## Limits\n\n- Mine as well.")
    merged = merge_cards(NEW, edited)
    assert "- Two." in merged
    assert "- Mine as well." in merged


def test_an_edit_within_a_section_of_ours_is_lost_with_a_warning(capsys):
    edited = CARD.replace("- One.", "- One, and a half.")
    assert edited_sections(edited) == ["Limits"]
    merged = keep_own_parts(NEW, edited, "org/moths")
    assert merged == NEW
    assert "warning: the card of org/moths was edited within sections that are written anew" in capsys.readouterr().err
    assert keep_own_parts(NEW, None, "org/moths") == NEW
    assert keep_own_parts(NEW, CARD, "org/moths") == NEW
    assert capsys.readouterr().err == ""


def test_keys_and_tags_of_a_person_stay_in_their_places():
    edited = CARD.replace("license: mit", "funding: a grant\nlicense: mit").replace("- biology", "- biology\n- night")
    merged = front_matter(merge_cards(NEW, edited))
    assert list(merged) == ["funding", "license", "tags", "configs"]
    assert merged == {"funding": "a grant", **FRONT, "license": "cc0-1.0", "tags": ["biology", "night"]}


def test_a_key_is_taken_over_by_removing_it_from_the_comment():
    edited = CARD.replace("front matter configs, license, tags", "front matter configs, tags")
    merged = merge_cards(NEW, edited.replace("license: mit", "license: odbl"))
    assert front_matter(merged)["license"] == "odbl"
    assert "front matter configs, tags\n" in merged
    assert merge_cards(NEW, merged) == merged


def test_a_key_that_a_release_no_longer_has_goes_and_so_does_its_tag():
    old = mark_sections(FRONT | {"base_model": "a/b", "tags": ["biology", "synthetic"]}, BODY)
    merged = front_matter(merge_cards(CARD, old))
    assert merged == FRONT


def test_a_card_that_was_written_by_hand_stays_before_ours_but_for_how_data_is_loaded():
    front = "license: mit\ntags: [night]\nconfigs: [{config_name: other}]"
    by_hand = f"---\n{front}\n---\n# My moths\n\nHello.\n\n## Limits\n\nNone.\n"
    merged = merge_cards(NEW, by_hand)
    assert headings(merged) == ["My moths", "Limits", "More moths", "Load it"]
    front = front_matter(merged) or {}
    assert front["license"] == "mit"
    assert front["configs"] == FRONT["configs"]
    assert front["tags"] == ["biology", "night"]
    assert merge_cards(NEW, merged) == merged


def test_of_a_card_on_this_machine_and_one_on_the_hub_the_hubs_says_what_people_wrote():
    local = inserted(CARD, "top", "Only here.")
    assert "Only here." in merge_cards(local, "# By hand\n")
    assert "Only here." not in merge_cards(local, inserted(CARD, "top", "On the Hub."))


def test_half_of_a_pair_of_comments_leaves_no_stray_one():
    edited = CARD.replace("<!-- sae-traits: end limits -->\n", "")
    merged = merge_cards(NEW, edited)
    assert merged.count("limits") == 0
    assert "- One." in merged
    assert headings(merged) == ["More moths", "Load it", "Limits"]


def test_line_ends_of_other_systems_and_comments_in_the_front_matter_do_no_harm():
    edited = inserted(CARD, "top", "Mine.")
    assert merge_cards(NEW, "\ufeff" + edited.replace("\n", "\r\n")) == merge_cards(NEW, edited)
    commented = CARD.replace("license: mit", "license: mit  # ask Ann")
    assert merge_cards(CARD, commented) == commented


@pytest.mark.parametrize("front", ["a: [", "- a list", "a: !!python/object:os.system x"])
def test_a_front_matter_that_cannot_be_read_is_one_clear_error(front, tmp_path: Path):
    with pytest.raises(ReleaseError, match=r"^org/moths: the front matter of the card is not .*run again$"):
        keep_own_parts(CARD, f"---\n{front}\n---\n# x\n", "org/moths")


WORDS = text("ab#`-|<!> \n:", max_size=30)
KEYS = sampled_from(["license", "tags", "mine", "theirs", "configs"])


@composite
def marked_cards(draw):
    names = draw(lists(sampled_from(["Load it", "Limits", "Columns", "Citation"]), unique=True, max_size=4))
    front = draw(dictionaries(KEYS, lists(sampled_from(["biology", "night"]), unique=True) | integers(), max_size=4))
    return mark_sections(front, "\n".join(["# Title\n", *(f"## {name}\n\n{draw(integers(0, 3))}\n" for name in names)]))


@composite
def edited_cards(draw):
    """A card of ours after somebody typed between its lines, and perhaps removed some of them."""
    lines = draw(marked_cards()).splitlines(keepends=True)
    for place, typed in draw(lists(tuples(integers(0, 40), WORDS), max_size=4)):
        lines.insert(place % (len(lines) + 1), f"{typed}\n")
    if draw(booleans()):
        del lines[draw(integers(0, len(lines) - 1))]
    return "".join(lines)


@settings(max_examples=150, deadline=None)
@given(new=marked_cards(), existing=edited_cards() | marked_cards() | WORDS)
def test_merging_again_changes_nothing_and_the_card_stays_readable(new, existing):
    generated = front_matter(new) or {}
    assume(isinstance(generated.get("tags", []), list))  # a generated card's tags are; a person's may be anything
    try:
        merged = merge_cards(new, existing)
    except ReleaseError:
        return
    assert merge_cards(new, merged) == merged
    front = front_matter(merged) or {}
    assert set(generated) <= set(front)
    assert front.get("configs") == generated.get("configs", front.get("configs"))
