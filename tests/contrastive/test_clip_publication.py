"""A CLIP that was trained is published with the real clients and read by its id; what is wrong is one line."""

import json
import re
import subprocess
import sys

import pytest
from damage.commands import forks
from hub.loopback import client_environment, running_hub, subprocess_environment
from small_pairs import make_model, make_table

from sae_traits.cli import main
from sae_traits.contrastive.folder import RECORD
from sae_traits.contrastive.record import TrainingRecord
from sae_traits.io import sealed_json

REPOSITORY = ["--model-repo", "museum/moth-clip"]


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """A Hub, processes that use it, and a finished training."""
    folder = tmp_path_factory.mktemp("publishing")
    with (
        running_hub(folder / "hub") as hub,
        forks(folder / "said", **client_environment(hub, folder / "home"), ACCELERATE_USE_CPU="true") as ready,
    ):
        data, model, out = make_table(folder / "squares"), make_model(folder / "base"), folder / "out"
        options = ["--workers", "0", "--batch-size", "8", "--epochs", "1", "--text-types", "sci", "--out", out]
        done = ready.do("finetune", "--data", data, "--model", model, *options)
        assert done.code == 0, done.err
        yield hub, ready, out


def test_a_trained_clip_is_published_and_read_by_id(opened, tmp_path):
    hub, ready, out = opened
    card = (out / "model" / "README.md").read_text()
    for text in (out / "model").glob("*.json"):
        assert str(out.parent) not in text.read_text(), text
    assert str(out.parent) not in card
    assert "trained further on 24 images of metadata.csv" in card
    dry = ready.do("publish", out, *REPOSITORY, "--dry-run")
    assert "nothing was uploaded" in dry.out, dry.err
    assert not hub.store.repositories
    first, again = (ready.do("publish", out, *REPOSITORY, "--license", "mit", "--collection", "C") for _ in range(2))
    assert first.code == again.code == 0, first.err + again.err
    assert first.out.startswith("published ")
    assert again.out == re.sub("^published", "unchanged", first.out)
    repository = hub.store.repositories["model", "museum/moth-clip"]
    assert list(repository.branches) == ["main"]
    moved = next(i for i, request in enumerate(hub.requests) if request.endswith("/commit/main"))
    assert any("/resolve/" in request and "model.safetensors" in request for request in hub.requests[:moved])
    front = hub.store.object_path(repository.find("main").files["README.md"].sha256).read_text().split("---")[1]
    assert "license: mit" in front
    assert "library_name: transformers" in front
    code = (
        "import torch; from sae_traits import load_clip\n"
        f"found, own = (load_clip(name, device='cpu') for name in ('museum/moth-clip', {str(out / 'model')!r}))\n"
        "pixels = torch.ones(1, 3, 32, 32)\n"
        "assert torch.equal(found.embed_images(pixels), own.embed_images(pixels))\n"
        "assert torch.equal(found.embed_texts(['a bee']), own.embed_texts(['a bee']))\n"
    )
    environment = subprocess_environment(hub, tmp_path / "home")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_cannot_be_published_is_one_line_and_nothing_is_uploaded(opened, tmp_path):
    hub, ready, out = opened
    hub.store.clear()

    def refused(folder, *words, **environment):
        done = ready.do("publish", folder, *REPOSITORY, *words, **environment)
        assert done.code in (1, 2), done.out
        assert len(done.error) == 1, done.err
        assert not hub.store.repositories
        return done.error[0]

    assert "is neither a run" in refused(tmp_path)
    assert f"name {out}" in refused(out / "model")
    assert "leave out --space" in refused(out, "--space", "museum/atlas")
    key = "sk-0123456789abcdefghij"
    assert "holds your token or key" in refused(out, "--license", key, OPENAI_API_KEY=key)
    (out / "training.checkpoint").write_bytes(b"x")
    assert "has not finished" in refused(out)
    (out / "training.checkpoint").unlink()
    config = out / "model" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert "config.json of the model is not as training wrote it" in refused(out)


def test_the_terms_of_the_training_images_stand_on_the_card_and_are_warned_of(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    licenses = ["CC BY-NC 4.0", "CC0-1.0", "", "CC BY-NC 4.0", "CC0-1.0", "CC BY-NC 4.0", "CC BY-SA 4.0"]
    data, out = make_table(tmp_path / "squares", licenses=licenses), tmp_path / "out"
    replay = make_table(tmp_path / "replay", licenses=["CC BY 4.0"])
    options = ["--workers", "0", "--batch-size", "8", "--epochs", "1", "--evaluations", "0", "--out", out]
    replayed = ["--replay", replay, "--replay-batch-size", "8"]
    arguments = ["finetune", "--data", data, "--model", make_model(tmp_path / "base"), *options, *replayed]
    assert main([str(word) for word in arguments]) == 0
    rows = ["| CC BY 4.0 | 24 |", "| CC BY-NC 4.0 | 12 |", "| CC0-1.0 | 8 |", "| none given | 4 |"]
    table = "\n".join(rows).replace("-", "&#45;")
    card = (out / "model" / "README.md").read_text()
    assert table in card.replace("-", "&#45;"), card
    assert "SA" not in card, "of validation images nothing was learnt"
    publish = ["publish", str(out), *REPOSITORY, "--dry-run"]
    capsys.readouterr()
    assert main([*publish, "--license", "mit"]) == 0
    said = "48 images, of which by their own licences 12 non-commercial, 4 of other or unknown terms; say it only"
    assert said in capsys.readouterr().err
    assert main(publish) == 0
    assert "of which by their own" not in capsys.readouterr().err


def test_a_record_of_before_licences_were_counted_says_that_none_are_known(opened, tmp_path):
    _, _, out = opened
    record = TrainingRecord.load(out)
    values = json.loads((out / RECORD).read_text())
    values.pop("licenses")
    values.pop("sha256")
    (tmp_path / RECORD).write_text(sealed_json(values))
    (tmp_path / "model").symlink_to(out / "model")
    assert record.licenses == {"CC0-1.0": 24}
    assert TrainingRecord.load(tmp_path).licenses == {None: 24}
