"""Forms of images that are no source: what was found, and the way on."""

import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images import read_collection

PICTURES = pa.table({"image": [{"bytes": b"x", "path": "a.png"}], "species": ["Danaus plexippus"]})


def refusal(source, *, labels=True):
    with pytest.raises(CollectionError) as refused:
        read_collection(CollectionConfig(source=str(source), labels=labels))
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("labels", [True, False])
def test_shards_are_named_with_what_reads_them_and_how_to_unpack_them(images, labels):
    root = images(["a.png"])
    folder = root.parent / "shards"
    folder.mkdir()
    with tarfile.open(folder / "train-000000.tar", "w") as tar:
        tar.add(root / "a.png", "a.png")
    for source in (folder, folder / "train-000000.tar"):
        message = refusal(source, labels=labels)
        assert message.startswith(f"{source} holds WebDataset shards (train-000000.tar), which `finetune` alone reads")
        assert "unpack them with tar" in message
    (root / "more.tar").touch()
    collection = read_collection(CollectionConfig(source=str(root), labels=False))
    assert [record.file for record in collection.images] == ["a.png"], "beside images it says nothing"


def test_images_inside_of_parquet_are_named_with_the_ways_to_read_them(tmp_path):
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "train-00000.parquet"
    pq.write_table(PICTURES, file)
    message = refusal(tmp_path)
    assert f"{tmp_path} holds Parquet files (train-00000.parquet)" in message
    assert "hf://datasets/ORG/NAME" in message
    message = refusal(file)
    assert f"the column 'image' of {file} holds images, not the names of their files" in message
    assert "hf://datasets/ORG/NAME (`benchmark` also takes the folder" in message
    pq.write_table(pa.table({"file": [["a.png"]], "species": ["Danaus plexippus"]}), file)
    assert "holds list<element: string>; it must hold text" in refusal(file)


@pytest.mark.parametrize("labels", [True, False])
def test_a_run_and_its_dataset_are_not_taken_for_photographs(images, tmp_path, labels, caplog):
    photographs = images(["Danaus_plexippus/a.png", "Danaus_plexippus/b.png"])
    run = tmp_path / "run"
    (run / "dataset" / "data" / "default").mkdir(parents=True)
    (run / "evaluation").mkdir()
    (photographs / "Danaus_plexippus" / "a.png").rename(run / "evaluation" / "figure.png")
    read_collection(CollectionConfig(source=str(photographs))).save(run / "images.parquet")
    (run / "config.yaml").touch()
    (run / "dataset" / "README.md").touch()
    pq.write_table(PICTURES, run / "dataset" / "data" / "default" / "train-00000.parquet")
    message = refusal(run, labels=labels)
    assert f"{run} is the folder of a run, not its photographs, which lie in {photographs}: give these" in message
    assert f"sae-traits annotate {run}" in message
    assert "is not read" not in caplog.text
    message = refusal(run / "dataset", labels=labels)
    assert f"is a dataset that sae-traits wrote, not photographs, which lie in {photographs}: give these" in message
    alone = (run / "dataset").rename(tmp_path / "dataset")
    assert f"{alone} is a dataset that sae-traits wrote, not photographs; `finetune` and" in refusal(alone)
