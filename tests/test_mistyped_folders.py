"""A name that is neither a folder here nor had from the Hub: both are said: a mistyped path is no fault of networks."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
from sae_traits import SAE
from sae_traits.config.features import VisionModel
from sae_traits.errors import SaeTraitsError
from sae_traits.features.backbone import load_backbone
from sae_traits.models.clip.model import find_clip
from sae_traits.release.loading import Released
from sae_traits.traits.released_latents import read_released_latents

for open_it in (
    SAE.from_pretrained,
    Released.open,
    read_released_latents,
    lambda name: load_backbone(VisionModel(model=name)),
    find_clip,
):
    try:
        open_it("runs/nope")
    except SaeTraitsError as error:
        print(error)
"""


@pytest.mark.parametrize("network", ["offline", "no answer", "an answer"])
def test_a_folder_that_is_not_there_is_said_not_to_be_there(tmp_path, request, network):
    environment = {
        "offline": lambda: {"HF_HUB_OFFLINE": "1"},
        "no answer": lambda: {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_ETAG_TIMEOUT": "1"},
        "an answer": lambda: request.getfixturevalue("hub_environment"),
    }[network]()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"HF_HOME": str(tmp_path / "cache")} | environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 5, done.stdout
    for line in lines:
        assert "runs/nope" in line
        assert "no such folder" in line or "no folder" in line or "neither a folder" in line, line
