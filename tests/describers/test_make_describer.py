"""A configuration makes its describer, and options that make no sense are refused before anything is asked."""

import subprocess
import sys
from typing import get_args

import pytest

from sae_traits.config.describer import VLLM, Describer, Measured, Server, Transformers
from sae_traits.describers import _CLASSES, make_describer
from sae_traits.describers.measured import MeasuredDescriber
from sae_traits.describers.server import ServerDescriber
from sae_traits.errors import ConfigError, DescriberError


@pytest.mark.parametrize(
    "options",
    [
        {"in_flight": 0},
        {"temperature": -1},
        {"call_timeout": 0},
        {"images_per_description": 0},
        {"prompt": "whole", "images_per_description": 2},
    ],
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ConfigError):
        Server(model="m", **options)


def test_every_configuration_has_a_describer():
    assert set(_CLASSES) == set(get_args(Describer))


def test_a_configuration_makes_its_describer():
    assert isinstance(make_describer(Measured()), MeasuredDescriber)
    server = make_describer(Server(model="m", revision="v2", in_flight=8))
    assert isinstance(server, ServerDescriber)
    assert (server.name, server.model, server.in_flight, server.batch_size) == ("server", "m@v2", 8, 1)


@pytest.mark.parametrize("config", [VLLM, Transformers])
def test_a_model_that_is_loaded_here_is_looked_for_at_once(config, tmp_path):
    with pytest.raises(DescriberError, match="cannot be used"):
        make_describer(config(model=str(tmp_path / "nothing")))


def test_a_path_is_not_published():
    assert make_describer(Server(model="/home/me/models/llava")).model == "llava@unstated"


def test_large_packages_are_not_imported_before_they_are_used():
    code = (
        "import sys; from sae_traits.config.describer import Measured, Server;"
        "from sae_traits.describers import make_describer;"
        "[make_describer(config) for config in (Measured(), Server(model='m'))];"
        "print({'torch', 'openai', 'transformers', 'vllm'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
