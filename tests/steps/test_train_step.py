"""The step `train` of a whole run: an SAE that was given, one that was lost."""

import yaml

from sae_traits.cli import main
from sae_traits.config.layers import read_config


def test_a_given_sae_is_used_with_its_own_backbone_and_not_trained(finished, drawn, tmp_path, capsys):
    arguments = ["run", str(drawn), "--out", str(tmp_path / "adopted"), "--sae", str(finished / "sae")]
    assert main([*arguments, "--workers", "0", "--describer-workers", "1", "--no-significant-only"]) == 0
    assert "train: step" not in capsys.readouterr().err
    weights = "sae/model.safetensors"
    assert (tmp_path / "adopted" / weights).read_bytes() == (finished / weights).read_bytes()
    traits = "traits/traits.parquet"
    assert (tmp_path / "adopted" / traits).read_bytes() == (finished / traits).read_bytes()


def test_options_that_would_have_no_effect_are_refused(run, capsys):
    assert main(["train", str(run), "--architecture", "relu", "--k", "4"]) == 2
    assert "--k is an option of --architecture topk" in capsys.readouterr().err
    assert main(["train", str(run), "--sae", str(run / "sae"), "--n-latents", "64"]) == 2
    assert "--n-latents is an option of --train new" in capsys.readouterr().err


def test_another_revision_is_of_the_sae_that_a_run_adopts_and_not_of_another_one(run, finished, capsys):
    assert main(["train", str(run), "--sae-revision", "v2"]) == 2
    assert "--sae-revision is an option of --train adopted" in capsys.readouterr().err
    assert main(["train", str(run), "--sae", str(finished / "sae")]) == 0
    capsys.readouterr()
    assert main(["train", str(run), "--sae-revision", "v2"]) == 1
    assert f"{finished}/sae" in capsys.readouterr().err  # a folder, which has no revisions
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["train"] |= {"sae": "museum/sae", "revision": "v1", "subfolder": "topk-k8"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert main(["train", str(run), "--sae", str(finished / "sae")]) == 0
    train = read_config(run / "config.yaml")["train"]
    assert (train["sae"], train["revision"], train["subfolder"]) == (str(finished / "sae"), None, "")


def test_a_lost_sae_is_trained_again(run, capsys):
    (run / "sae" / "model.safetensors").unlink()
    assert main(["train", str(run)]) == 0
    assert "train: done" in capsys.readouterr().err
    assert (run / "sae" / "model.safetensors").is_file()
