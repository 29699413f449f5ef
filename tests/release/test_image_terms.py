"""What a licence of weights may not pass on of the images that they were trained on."""

import pytest

from sae_traits.release.image_terms import terms_warning


@pytest.mark.parametrize(
    ("licenses", "said"),
    [
        ({"CC BY-NC 4.0": 3, "CC0": 1}, "trained on 4 images, of which by their own licences 3 non-commercial; say"),
        ({"http://creativecommons.org/licenses/by-nc-sa/4.0/legalcode": 2}, "2 non-commercial, 2 share-alike"),
        ({"cc_by_sa": 1500, "Attribution-NonCommercial 4.0 International": 2}, "2 non-commercial, 1,500 share-alike"),
        ({"for learning, no commercial use": 2, "not for commercial use": 1}, "licences 3 non-commercial"),
        ({"CC BY-ND 4.0": 1}, "1 no-derivatives"),
        ({None: 2, "All rights reserved": 3, "CC BY 4.0": 1}, "5 of other or unknown terms"),
        ({"© sand snc": 1}, "1 of other or unknown terms"),
    ],
)
def test_terms_that_ask_for_more_than_names_are_counted(licenses, said):
    assert said in (terms_warning("mit", licenses) or "")


def test_terms_that_ask_for_names_alone_or_that_the_weights_have_too_are_none_to_warn_of():
    free = [
        "CC0-1.0",
        "CC BY 4.0",
        "cc-by",
        "https://creativecommons.org/publicdomain/mark/1.0/",
        "Public Domain",
        "MIT",
    ]
    assert terms_warning("mit", dict.fromkeys(free, 1)) is None
    assert terms_warning("cc-by-nc-sa-4.0", {"CC BY-NC 4.0": 1, "CC BY-SA 4.0": 1}) is None
    assert "1 share-alike" in (terms_warning("cc-by-nc-4.0", {"CC BY-NC-SA 4.0": 1}) or "")
