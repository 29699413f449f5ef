"""`sae_traits.run` and what it gives, on a run that the command line made; and the example notebook."""

import asyncio
import json
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

import sae_traits
from sae_traits.errors import ConfigError, DescriberError, StoreError
from sae_traits.traits import asking

NOTEBOOK = Path(__file__).parents[2] / "examples" / "first_run.ipynb"
OPTIONS = {
    "backbone": "texture", "n_latents": 256, "k": 8, "n_patches": 60_000, "batch_size": 512,
    "workers": 0, "describer_workers": 1, "longest_side": 128, "significant_only": False,
}  # fmt: skip
"""`small_runs.SMALL`, as keywords."""


def test_the_same_run_from_python_does_nothing_again_and_is_told_of_what_is_counted(drawn, run):
    counted = []

    def progress(label, done, total, unit):
        counted.append((label, done, total, unit))

    assert sae_traits.run(drawn, run, progress=progress, **OPTIONS).summary.counts["collect"]["n_images"] == 45
    assert counted == []
    again = sae_traits.run(drawn, run, progress=progress, **OPTIONS | {"longest_side": 96})
    assert counted[0] == ("dataset", 0, 45, "image")
    assert counted[-1] == ("dataset", 45, 45, "image")
    assert max(again.dataset["train"][0]["image"].size) == 96


@pytest.mark.slow
def test_a_run_inside_an_event_loop_as_cells_of_notebooks_have_it_asks_the_describer(drawn, run):
    async def cell():
        return sae_traits.run(drawn, run, outline="patches", **OPTIONS)

    again = asyncio.run(cell())
    assert again.summary.counts["annotate"]["n_traits"] == len(again.traits) > 0


def test_the_table_has_the_rows_of_the_dataset_without_images(finished):
    run = sae_traits.Run(finished)
    table, dataset = run.traits, run.dataset
    assert table["split"].value_counts().to_dict() == {split: len(rows) for split, rows in dataset.items()}
    columns = dataset["train"].column_names
    assert list(table.columns) == ["width", "height", *(name for name in columns if name != "image"), "split"]
    train = table[table["split"] == "train"]
    assert train["trait_id"].tolist() == dataset["train"]["trait_id"]
    assert train["text"].tolist() == dataset["train"]["text"]
    assert (train["width"].iloc[0], train["height"].iloc[0]) == dataset["train"][0]["image"].size
    assert run.sae.config.n_latents == 256
    assert run.results.annotation["n_traits"] == len(table)


def test_the_view_has_the_summary_and_a_picture_per_species(finished):
    html = sae_traits.Run(finished)._repr_html_()
    assert html.count('<img src="data:image/jpeg;base64,/9j/') == 8
    assert "traits    " in html
    assert "<script" not in html


def test_what_cannot_be_used_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="there is no option 'n-latent'; did you mean n-latents"):
        sae_traits.run(tmp_path, tmp_path / "run", n_latent=3)
    with pytest.raises(ConfigError, match="k must be 1 or more"):
        sae_traits.run(tmp_path, tmp_path / "run", k=0)
    assert not (tmp_path / "run").exists()
    with pytest.raises(StoreError, match="is not a run"):
        _ = sae_traits.Run(tmp_path).summary


BENCHMARK = """\
import sys
import sae_traits
sae_traits.benchmark("retrieval", images=sys.argv[1], clip="nowhere/clip", out=sys.argv[2])
"""
CALL = """\
import sys
import sae_traits
options = dict(backbone="texture", n_latents=64, k=4, n_patches=6000, batch_size=256)
{guard}run = sae_traits.run(sys.argv[1], sys.argv[2], **options)
{guard}print(len(run.traits), "traits")
"""


def do_script(text, *arguments):
    """A script in a process of its own, from a file, as its workers import it."""
    script = arguments[-1].with_suffix(".py")
    script.write_text(text)
    return subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize(("script", "call"), [(CALL.format(guard=""), "run"), (BENCHMARK, "benchmark")])
def test_a_script_without_a_guard_is_told_to_have_one_before_anything_is_done(drawn, tmp_path, script, call):
    done = do_script(script, drawn, tmp_path / "run")
    assert done.returncode == 1
    assert done.stdout == ""
    assert f'put the call of sae_traits.{call} below `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]
    assert done.stderr.count("Traceback (most recent call last)") == 1
    assert len(done.stderr.splitlines()) < 15
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_script_with_a_guard_runs_with_worker_processes(drawn, tmp_path):
    done = do_script(CALL.format(guard='if __name__ == "__main__": '), drawn, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" traits\n")


def test_a_run_whose_describer_stopped_raises_and_says_why(drawn, run, monkeypatch):
    def killed(*_):
        raise BrokenProcessPool

    monkeypatch.setattr(asking, "prepare_calls", killed)
    with pytest.raises(
        DescriberError, match=r"have no answer yet.*stopped: a process that prepares pictures was killed"
    ):
        sae_traits.run(drawn, run, outline="patches", **OPTIONS)


def code_cells():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert all(cell["outputs"] == [] for cell in cells if cell["cell_type"] == "code"), "they would grow old"
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.slow
def test_the_example_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed: list[str] = []
    names = {"print": printed.append}
    for number, cell in enumerate(code_cells()):
        exec(compile(cell, f"cell {number}", "exec"), names)
    assert "codes: 3 shards" in printed
    assert names["codes"].shape == (len(names["grid"].valid), 256)
    assert len(names["run"].traits) > 100


def test_the_cells_of_the_example_notebook_name_options_that_exist():
    from sae_traits.config import RunConfig
    from sae_traits.config.tree import options_of

    (call,) = (cell for cell in code_cells() if "sae_traits.run(" in cell)
    names = {line.split("=")[0].strip() for line in call.partition("sae_traits.run(")[2].splitlines() if "=" in line}
    flags = {option.flag.replace("-", "_") for option in options_of(RunConfig)}
    assert names - {"progress", "backbone"} <= flags
