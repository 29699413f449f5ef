"""The config `latents` of a dataset, as a run reads it again: what is taken, and what is refused with a reason."""

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from sae_traits.arrow import columns_of
from sae_traits.errors import CheckpointError, ConfigError, StoreError
from sae_traits.schema import ChosenLatent, Contrast
from sae_traits.traits.released_latents import check_sae, read_released_latents, sae_to_adopt

SAE = "museum/sae@" + "a" * 40
FILES = "data/latents/train-*.parquet"


def chosen(latent, species, effect, threshold=0.5, q_value=0.03):
    contrast = Contrast(
        f_species=0.75, f_reference=0.25, effect=effect, q_value=q_value, significant=q_value < 0.05,
        reference_rank="family",
    )  # fmt: skip
    return ChosenLatent(
        species=species, latent=latent, threshold=threshold, contrast=contrast, n_fired=6, n_individuals=8
    )


ROWS = (chosen(5, "Gen a", 1.0), chosen(5, "Gen b", 2.0), chosen(2, "Gen b", 0.25, 1.5, math.nan))


def dataset(folder, rows=ROWS, *, saes=None, path: str | list[str] = FILES, configs=None, drop=()):
    """A dataset folder with the config `latents` alone, in two files."""
    (folder / "data" / "latents").mkdir(parents=True)
    columns = columns_of(ChosenLatent)
    schema = pa.schema([("sae", pa.string()), *((column.name, column.type) for column in columns)])
    lines = [
        {"sae": sae} | {column.name: column.of(row) for column in columns}
        for row, sae in zip(rows, saes or [SAE] * len(rows), strict=True)
    ]
    for number, some in enumerate((lines[:1], lines[1:])):
        table = pa.Table.from_pylist(some, schema=schema).drop_columns(list(drop))
        pq.write_table(table, folder / "data" / "latents" / f"train-{number}.parquet")
    default = [{"config_name": "latents", "data_files": [{"split": "train", "path": path}]}]
    front = {"configs": default if configs is None else configs}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(front)}---\n# Traits\n")
    return folder


def test_each_latent_has_the_row_of_the_species_with_the_largest_effect(tmp_path):
    released = read_released_latents(str(dataset(tmp_path)))
    assert (released.sae, released.revision, released.name) == (SAE, None, str(tmp_path))
    assert list(released.choices) == [2, 5]
    found = released.choices[5]
    assert (found.species, found.contrast.effect, found.contrast.f_species) == ("Gen b", 2.0, 0.75)
    assert (found.contrast.significant, found.contrast.reference_rank, found.n_fired) == (True, "family", 6)
    assert math.isnan(released.choices[2].contrast.q_value)
    assert released.choices[2].contrast.significant is False
    assert dict(released) == {"Gen b": released.choices}


def test_latents_that_the_dataset_does_not_have_never_fire(tmp_path):
    released = read_released_latents(str(dataset(tmp_path)))
    assert released.thresholds(7).tolist() == [math.inf, math.inf, 1.5, math.inf, math.inf, 0.5, math.inf]
    assert released.thresholds(7).dtype == np.float32
    with pytest.raises(StoreError, match="has a latent 5, but the SAE has latents 0 to 4"):
        released.thresholds(5)


def test_the_digest_is_that_of_what_is_used(tmp_path):
    digest = read_released_latents(str(dataset(tmp_path / "a"))).digest
    assert read_released_latents(str(dataset(tmp_path / "b", ROWS[1:]))).digest == digest
    assert read_released_latents(str(dataset(tmp_path / "c", ROWS[:2]))).digest != digest


def test_where_latents_usually_fire_is_taken_over_and_datasets_of_before_do_not_say(tmp_path):
    rows = (replace(ROWS[1], usual_x=0.25, usual_y=1.0), ROWS[2])
    released = read_released_latents(str(dataset(tmp_path / "a", rows)))
    assert {latent: choice.usual_place for latent, choice in released.choices.items()} == {2: None, 5: (0.25, 1.0)}
    older = read_released_latents(str(dataset(tmp_path / "b", rows, drop=("usual_x", "usual_y"))))
    assert [choice.usual_place for choice in older.choices.values()] == [None, None]
    assert older.digest != released.digest


def test_files_may_be_listed_one_by_one(tmp_path):
    names = [f"data/latents/train-{number}.parquet" for number in (0, 1)]
    assert list(read_released_latents(str(dataset(tmp_path, path=names))).choices) == [2, 5]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"configs": []}, "has no config `latents`"),
        ({"configs": [{"config_name": "latents"}]}, "front matter .* cannot be read"),
        ({"configs": "latents"}, "front matter .* cannot be read"),
        ({"path": "elsewhere/*.parquet"}, r"has no files \(elsewhere"),
        ({"path": "../*/data/latents/*.parquet"}, "has no files"),
        ({"rows": ()}, "has no rows"),
        ({"drop": ("threshold", "q_value")}, "lacks threshold, q_value"),
        ({"saes": [SAE, SAE, "museum/other@1"]}, "are of several SAEs: museum/other@1, museum/sae@a"),
        ({"saes": [SAE, None, SAE]}, "latent 5 is of no SAE: its `sae` is None"),
        ({"rows": (chosen(-1, "Gen a", 1.0), *ROWS)}, "latent -1 has"),
        ({"rows": (chosen(1, "Gen a", math.nan), *ROWS)}, "contrast.effect"),
        ({"rows": (chosen(1, "Gen a", 1.0, math.inf), *ROWS)}, "threshold inf"),
        ({"rows": (replace(ROWS[0], usual_x=0.5, usual_y=1.5), *ROWS)}, "latent 5 usually fires at .* outside"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path, options, reason):
    with pytest.raises(StoreError, match=reason):
        read_released_latents(str(dataset(tmp_path / "traits", **options)))


def test_a_damaged_file_is_refused(tmp_path):
    dataset(tmp_path)
    (tmp_path / "data/latents/train-0.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(StoreError, match="cannot be used"):
        read_released_latents(str(tmp_path))


def test_a_run_is_not_its_dataset_and_a_folder_has_no_revision(tmp_path):
    dataset(tmp_path / "run" / "dataset")
    with pytest.raises(StoreError, match=r"run is not a dataset: it has no README.md; give .*run/dataset"):
        read_released_latents(str(tmp_path / "run"))
    with pytest.raises(StoreError, match=r"is not a dataset: it has no README\.md; give the folder of a dataset"):
        read_released_latents(str(tmp_path))
    with pytest.raises(StoreError, match="has no revision"):
        read_released_latents(str(tmp_path / "run" / "dataset"), revision="main")


def test_a_name_that_is_neither_a_folder_nor_an_id_is_refused():
    with pytest.raises(StoreError, match="neither a folder here nor a Hub id"):
        read_released_latents("no/such/folder")


def named(folder, sae):
    """The latents of a dataset that names its SAE so."""
    return read_released_latents(str(dataset(folder, saes=[sae] * len(ROWS))))


def adopted(released, *given, beside="0123"):
    """What goes with some latents, where an SAE beside their dataset would have weights of this hash."""
    return sae_to_adopt(released, released.name, *given, hash_of=lambda folder: beside)


def test_the_sae_on_the_hub_that_the_dataset_names_is_adopted_unless_another_is_given(tmp_path):
    released = named(tmp_path / "dataset", SAE)
    (tmp_path / "sae").mkdir()
    assert adopted(released) == ("museum/sae", "a" * 40)
    assert adopted(released, "museum/sae") == ("museum/sae", "a" * 40)
    assert adopted(released, "museum/sae", "main") == ("museum/sae", "main")
    assert adopted(released, "runs/moths/sae") == ("runs/moths/sae", None)


def test_an_sae_that_is_on_no_hub_lies_beside_the_dataset_or_must_be_given(tmp_path):
    released = named(tmp_path / "dataset", "local@sha256:0123")
    with pytest.raises(ConfigError, match=f"not on the Hub, and {tmp_path / 'sae'} is not there; say with --sae where"):
        adopted(released)
    (tmp_path / "sae").mkdir()
    assert adopted(released) == (str(tmp_path / "sae"), None)
    assert adopted(released, "runs/moths/sae") == ("runs/moths/sae", None)
    with pytest.raises(ConfigError, match=f"{tmp_path / 'sae'} is another one; say with --sae where it is"):
        adopted(released, beside="4567")


def test_the_latents_of_another_sae_are_refused_wherever_it_lies(tmp_path):
    asked = []

    def hash_of(repository, revision):
        asked.append((repository, revision))
        return "0123"

    on_hub, local = named(tmp_path / "a", SAE), named(tmp_path / "b", "local@sha256:0123")
    for released in (on_hub, local):
        check_sae(released, "a copy", "0123", hash_of)
        with pytest.raises(CheckpointError, match=r"not of another \(sha256:4567\)"):
            check_sae(released, "another", "4567", hash_of)
    assert asked == [("museum/sae", "a" * 40)] * 2


def test_a_dataset_of_regions_without_an_sae_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is no SAE"):
        check_sae(named(tmp_path, "pca@sha256:0123"), "any", "0123", lambda *_: "0123")
