"""Names that a describer proposes: one call per latent, about its strongest individuals, and never twice."""

import json
from dataclasses import replace

import pytest
from describer_server.many import ManyCandidates
from describer_server.running import describer_server
from made_traits import described, trait_of

from sae_traits.config.describer import Server
from sae_traits.describers import make_describer
from sae_traits.describers.model import ModelDescriber
from sae_traits.traits.ledger import Ledger
from sae_traits.traits.suggested_names import naming_calls, suggest_names


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    return ManyCandidates(tmp_path_factory.mktemp("many"), 8).collection


@pytest.fixture(scope="module")
def traits():
    """Latent 3 in eight images, the stronger the later; latent 5 in two, latent 7 in one."""
    rows = [(row, 3) for row in range(8)] + [(0, 5), (1, 5), (2, 7)]
    made = [trait_of(row, latent, described()) for row, latent in rows]
    return [replace(one, candidate=replace(one.candidate, peak=1.0 + one.candidate.image)) for one in made]


def reply_of(part, *, is_background=False):
    answer = {"is_background": is_background, "part": part, "attributes": [], "text": "All of them are dark."}
    message = {"role": "assistant", "content": json.dumps(answer)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}


def describer_of(base_url="http://localhost:1/v1"):
    describer = make_describer(Server(model="tiny", base_url=base_url, workers=1, name_species=True))
    assert isinstance(describer, ModelDescriber)
    return describer.for_latents(3)


def test_a_call_shows_the_strongest_individuals_of_any_species_and_names_none(collection, traits):
    calls = naming_calls(traits, collection, describer_of(), named={7}, n_latents=9)
    assert list(calls) == [3, 5]
    assert [member.trait_id for member in calls[3].members] == ["s7-3", "s6-3", "s5-3"]
    assert calls[3].species is None
    assert len({collection.images[row].species for row in (5, 6, 7)}) == 3
    assert calls[3].identity.prompt.startswith("latent-1 sha256:")
    assert list(naming_calls(traits, collection, describer_of(), named=(), n_latents=1)) == [3]


def test_suggestions_come_from_one_call_per_latent_and_are_not_asked_for_twice(collection, traits, tmp_path):
    with describer_server(reply=reply_of("abdomen")) as server, Ledger(tmp_path / "naming.sqlite") as ledger:

        def ask(**other):
            options = {"named": (), "n_latents": 9, "workers": 1} | other
            return suggest_names(traits, collection, describer_of(server.base_url), ledger, **options)

        found = ask(n_latents=2)
        assert (found.names, found.n_asked, found.n_open) == ({3: "abdomen", 5: "abdomen"}, 2, 0)
        assert server.n_requests() == 2
        server.change(reply=reply_of(None, is_background=True))
        found = ask()
        assert (set(found.names), found.n_background) == ({3, 5}, 1)
        assert server.n_requests() == 3
        assert ask(named={3, 5, 7}).n_asked == 0
