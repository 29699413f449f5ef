"""What is read of a training's record: losses of steps with the texts that each had."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # benchmarks are scripts, not a package

from leeds_recipes import draw, read_training, table

from sae_traits.contrastive.texts import text_type_of_step

TYPES = ("sci", "caption")


def record(n_steps, types=TYPES):
    """A training.json whose loss is 4 with names and 2 with captions at first, and half of that later."""
    curve = [{"step": 0, "validation_accuracy": 0.1}]
    for step in range(1, n_steps + 1):
        loss = (4.0 if text_type_of_step(types, (), step - 1) == "sci" else 2.0) / (1 if step <= n_steps // 2 else 2)
        curve.append({"step": step, "loss": loss, "learning_rate": 1e-4})
    curve.append({"step": n_steps, "validation_accuracy": 0.5})
    pairs = {"text_types": list(types), "text_weights": [], "replay_batch_size": 16}
    return {"config": {"pairs": pairs, "schedule": {"batch_size": 64}}, "curve": curve}


def test_losses_are_told_apart_by_the_texts_of_their_steps():
    lines = table([read_training("biocap-captions", record(40), 12.0)]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    lines = lines[2:]
    of_all, names, captions = sorted(lines, key=lambda line: ("| all " not in line, "| sci " not in line))
    assert "10.0% → 50.0% | 12" in of_all
    assert "| 6.931 |" in of_all  # ln 64 + ln 16
    assert "| 4.000 " in names
    assert "| 2.000 |" in names
    assert "| 2.000 " in captions
    assert "| 1.000 |" in captions


def test_one_type_of_text_is_one_line():
    assert len(table([read_training("bioclip-traits", record(20, ("trait",)), float("nan"))]).splitlines()) == 3


def test_the_figure_is_the_same_file_each_time(tmp_path):
    trainings = [read_training("biocap-captions", record(8), 1.0)] * 2
    for name in ("a.png", "b.png"):
        draw(trainings, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
