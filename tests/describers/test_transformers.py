"""The describer `transformers` with a tiny LLaVA of random weights: it babbles, and every babble is kept."""

import asyncio
from importlib.util import find_spec

import numpy as np
import pytest
from describer_server.many import TRAITS, ManyCandidates
from describer_server.tiny_models import make_llava

from sae_traits.config.describer import VLLM, Transformers
from sae_traits.describers import Question, make_describer
from sae_traits.describers.view import View
from sae_traits.errors import DescriberError
from sae_traits.traits.annotate import describe_candidates
from sae_traits.traits.ledger import MAX_ATTEMPTS, Ledger


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    """A LLaVA of 16 dimensions over bytes, in a folder."""
    return make_llava(tmp_path_factory.mktemp("llava"))


def describer(folder, **options):
    given = {"model": str(folder), "temperature": 0, "max_tokens": 12, "device": "cpu"}
    return make_describer(Transformers(**given | options))


def ask(describer, questions):
    async def answers():
        async with describer.open() as ask:
            return await ask(questions)

    return asyncio.run(answers())


def question(seed, species="Apis mellifera"):
    image = np.random.default_rng(seed).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    return Question(f"key {seed}", (View("whole")(image, None, None),), species)  # pyright: ignore


def test_a_batch_gets_the_answers_of_its_questions_one_by_one(llava):
    asking = describer(llava, name_species=True)
    questions = [question(0), question(1, "Bombus terrestris subspecies of another length"), question(2)]
    together = ask(asking, questions)
    alone = [ask(asking, [single])[0] for single in questions]
    assert [answer.raw for answer in together] == [answer.raw for answer in alone]
    assert len({answer.raw for answer in together}) > 1
    assert [a.usage for a in together] == [a.usage for a in alone]
    assert together[1].usage["prompt_tokens"] > together[0].usage["prompt_tokens"] > 1000  # tokens are bytes here


def test_babble_is_invalid_for_the_right_reason(llava):
    answers = ask(describer(llava), [question(seed) for seed in range(3)])
    assert all(answer.description is None and not answer.failed and answer.raw for answer in answers)
    cut_off = [answer for answer in answers if answer.usage["completion_tokens"] == 12]
    assert all("cut off after 12 tokens" in str(answer.error) for answer in cut_off)


def test_the_model_is_named_by_the_hash_of_its_weights(llava):
    assert describer(llava).model.startswith(f"{llava.name}@sha256:")


def test_what_a_model_cannot_answer_is_told_in_one_line_with_what_to_do(llava):
    with pytest.raises(
        DescriberError, match=r"fails with 64 questions at a time: .*; ask less at a time \(--in-flight\)"
    ):
        ask(describer(llava, name_species=True), [question(0, "Apis <image> mellifera")])  # a picture that is not there


def test_it_goes_through_the_same_ledger(llava, tmp_path):
    asking = describer(llava, in_flight=4, max_tokens=4)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        describe_candidates(ManyCandidates(tmp_path, 1), asking, ledger, workers=1)  # pyright: ignore
        calls = list(ledger)
    assert len(calls) == TRAITS
    assert {(call.state, call.attempts, call.describer) for call in calls} == {
        ("invalid", MAX_ATTEMPTS, "transformers")
    }


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_without_vllm_its_describer_says_what_to_do(llava):
    with pytest.raises(DescriberError, match=r"pip install 'sae-traits\[vllm\]'"):
        ask(make_describer(VLLM(model=str(llava))), [question(0)])


def test_a_model_that_is_not_there_or_no_chat_model_is_refused(llava, tmp_path):
    with pytest.raises(DescriberError, match="cannot be used"):
        describer(tmp_path / "nothing")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes((llava / "model.safetensors").read_bytes())
    with pytest.raises(DescriberError, match="cannot load"):
        ask(describer(tmp_path), [question(0)])
