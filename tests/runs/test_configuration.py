from sae_traits.config import RunConfig
from sae_traits.config.tree import build
from sae_traits.runs.configuration import options_of_steps


def test_a_step_is_known_by_its_options_that_decide_what_it_makes():
    options = options_of_steps(
        build(RunConfig, {"features": {"backbone": "texture", "workers": 7}, "train": {"architecture": {"k": 4}}})
    )
    assert options["extract"]["backbone"] == "texture"
    assert options["train"]["k"] == 4
    assert "workers" not in options["extract"], "it changes nothing"
    assert not any("source" in of_step for of_step in options.values()), "images may move"


def test_a_variant_that_an_option_chooses_is_known_by_that_option():
    new = options_of_steps(RunConfig())
    adopted = options_of_steps(build(RunConfig, {"train": {"sae": "ORG/SAE"}, "zero_shot": {"clip": "ORG/CLIP"}}))
    assert (new["train"]["sae"], adopted["train"]["sae"]) == (None, "ORG/SAE")
    assert (new["evaluate"]["clip"], adopted["evaluate"]["clip"]) == (None, "ORG/CLIP")
