"""Options of describers that make no sense are refused before anything is asked."""

import pytest

from sae_traits.config.layers import resolve
from sae_traits.describers import make_describer
from sae_traits.describers.measured import Measured
from sae_traits.describers.server import Server
from sae_traits.errors import ConfigError

SERVER = {"describer": "server", "describer_model": "m"}


@pytest.mark.parametrize(
    "options",
    [
        {"describer": "server"},
        {"describer_model": "m"},
        {"images_per_description": 2},
        {"describer": "other"},
        SERVER | {"in_flight": 0},
        SERVER | {"temperature": -1},
        SERVER | {"call_timeout": 0},
        SERVER | {"prompt": "whole", "images_per_description": 2},
        SERVER | {"show": "nothing"},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError):
        resolve({"describe": options})


def test_a_configuration_names_its_describer():
    assert isinstance(make_describer(resolve().describe), Measured)
    server = make_describer(resolve({"describe": SERVER | {"describer_revision": "v2", "in_flight": "8"}}).describe)
    assert isinstance(server, Server)
    assert (server.name, server.model, server.in_flight, server.batch_size) == ("server", "m@v2", 8, 1)


def test_a_path_is_not_published():
    describer = make_describer(resolve({"describe": SERVER | {"describer_model": "/home/me/models/llava"}}).describe)
    assert describer.model == "llava@unstated"
