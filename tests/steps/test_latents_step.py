"""What latents of an annotated run stand for, as files."""

from pathlib import Path

from sae_traits.cli import main


def test_latents_are_shown_with_their_strongest_images(run, capsys):
    assert main(["latents", str(run), "--strongest", "3"]) == 0
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [file.name for file in files[:2]] == ["latents.csv", "images.csv"]
    assert len(files) > 3
    assert all(file.is_file() and file.parent == run / "latents" for file in files)
    assert main(["latents", str(run), "100000"]) == 2
    assert "100000" in capsys.readouterr().err
