"""What a collection's folder says of it as a whole."""

import pytest

from sae_traits.errors import CollectionError
from sae_traits.images.note import NOTE_FILE, read_note


def test_a_folder_may_say_why_its_images_show_no_organisms(tmp_path):
    assert read_note(tmp_path) is None
    (tmp_path / NOTE_FILE).write_text("note: Plastic models of beetles.")
    assert read_note(tmp_path) == "Plastic models of beetles."


@pytest.mark.parametrize(
    "text", ["", "note:", "note: 3", "notes: A typing error.", "[", "note: A\nmore: B", "note: A\nnote: B"]
)
def test_what_is_no_note_is_refused(tmp_path, text):
    (tmp_path / NOTE_FILE).write_text(text)
    with pytest.raises(CollectionError, match="correct or remove it"):
        read_note(tmp_path)
