import numpy as np
import pytest
from toy_world import BagOfWords

from sae_traits.evaluation.prompts import Prompter, embed_prompts, write_fillers, write_prompts
from sae_traits.evaluation.text import read_templates


def test_equal_texts_are_encoded_once_and_templates_are_averaged():
    encoder = BagOfWords()
    prompter = Prompter(encoder, ("a photo of {}.", "art of the {}."))
    found = prompter.embed(["Aus bus", "Cus dus", "Aus bus"], "names")
    assert encoder.n_encoded == 4
    assert (found[0] == found[2]).all()
    parts = encoder.embed_texts(["a photo of Aus bus.", "art of the Aus bus."]).numpy().mean(axis=0)
    assert found[0] == pytest.approx(parts / np.linalg.norm(parts), abs=1e-6)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(3), abs=1e-6)


def test_many_texts_are_encoded_in_batches_in_the_order_given():
    prompter = Prompter(BagOfWords(), read_templates("openai"))
    texts = [f"word{number}" for number in range(60)]
    alone = [prompter.embed([text], "names")[0] for text in (texts[0], texts[59])]
    assert prompter.embed(texts, "names")[[0, 59]] == pytest.approx(np.array(alone), abs=1e-6)


def test_one_prompt_a_trait_or_all_in_one():
    prompter = Prompter(BagOfWords(), ("a photo of {}.",))
    names, traits = ["Aus bus", "Cus dus"], [("red head", "blue legs", "long horns"), ()]
    single = write_prompts(prompter, names, traits, "prompts", [2])[0]
    assert single.prompts == (("Aus bus, red head", "Aus bus, blue legs"), ())
    joined = write_prompts(prompter, names, traits, "joined", [2])[0]
    assert joined.prompts == (("Aus bus, red head; blue legs",), ())
    alone = write_prompts(prompter, ["", ""], traits, "joined", [8])[0]
    assert alone.prompts == (("red head; blue legs; long horns",), ())
    assert single.left_out == joined.left_out == alone.left_out == (0, 0)


def test_what_does_not_fit_is_left_out_and_counted():
    # Start, end and `a photo of Aus bus,` are 7 tokens: 3 words are left.
    prompter = Prompter(BagOfWords(context_length=10), ("{}", "a photo of {}."))
    traits = [("red head", "very long and curved horns", "blue legs", "bald")]
    single = write_prompts(prompter, ["Aus bus"], traits, "prompts", [8])[0]
    assert single.prompts == (("Aus bus, red head", "Aus bus, blue legs", "Aus bus, bald"),)
    assert single.left_out == (1,)
    joined = write_prompts(prompter, ["Aus bus"], traits, "joined", [8])[0]
    assert joined.prompts == (("Aus bus, red head; bald",),)
    assert joined.left_out == (2,)
    counted = write_prompts(prompter, ["Aus bus"], traits, "joined", [1, 2, 3, 5])
    assert [variant.left_out for variant in counted] == [(0,), (1,), (2,), (2,)]
    nothing = write_prompts(prompter, ["Aus bus"], [traits[0][1:2]], "joined", [8])[0]
    assert (nothing.prompts, nothing.left_out) == (((),), (1,))


def test_a_class_is_the_mean_of_its_prompts_and_zero_without():
    encoder = BagOfWords()
    prompter = Prompter(encoder, ("{}",))
    names, traits = ["Aus", "Bus"], [("red", "blue"), ()]
    variants = write_prompts(prompter, names, traits, "prompts", [1, 2])
    one, two = embed_prompts(prompter, variants, 96, "traits")
    assert encoder.n_encoded == 2  # the first prompt is in both
    expected = encoder.embed_texts(["Aus, red", "Aus, blue"]).numpy()
    assert one[0] == pytest.approx(expected[0], abs=1e-6)
    assert two[0] == pytest.approx(expected.mean(axis=0) / np.linalg.norm(expected.mean(axis=0)), abs=1e-6)
    assert not one[1].any()
    assert not two[1].any()


def test_a_filler_is_as_long_as_its_trait_and_says_nothing_of_it():
    encoder = BagOfWords()
    traits = [("a large red head with many small black spots on it " * 5, "bald"), ()]
    fillers = write_fillers(encoder, traits)
    assert [[encoder.count_tokens(one) for one in ranked] for ranked in fillers] == [
        [encoder.count_tokens(one) for one in ranked] for ranked in traits
    ]
    assert not {"red", "head", "black", "spots", "bald"} & set(" ".join(fillers[0]).split())
