"""A process that publishes a small release for every line of JSON on stdin, through the environment's Hub and token.

    python -m hub.publisher FOLDER

A line holds the fields of `Terms`, and `n_rows`, the rows of the dataset. The answer is a line of JSON: `published`, or
`error`. Each publish starts with empty caches, as a new process would; only the imports are shared.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from datasets import Dataset, Features, Image, List, Value
from huggingface_hub import HfApi, HfFileSystem, constants
from PIL import Image as Picture

from sae_traits import SAE, SAEConfig
from sae_traits.errors import SaeTraitsError
from sae_traits.release.folder_plan import plan_folder
from sae_traits.release.hub import LoadBack, Published, RepoType, carry_out, open_repository, prepare
from sae_traits.release.hub_errors import errors_in_one_line
from sae_traits.release.publication import Terms, publish_release

FEATURES = Features(
    {
        "image": Image(),
        "text": Value("string"),
        "box": List(Value("float32"), length=4),
        "attributes": List({"name": Value("string"), "value": Value("string")}),
        "q_value": Value("float32"),
        "sae": Value("string"),
    }
)
CARD = """---
configs:
- config_name: default
  default: true
  data_files:
  - {split: train, path: data/default/train-*.parquet}
  - {split: test, path: data/default/test-*.parquet}
- config_name: latents
  data_files:
  - {split: train, path: data/latents/train-*.parquet}
---
# Traits
"""


def publish_folder(
    folder: Path,
    repo_id: str,
    *,
    repo_type: RepoType,
    private: bool = False,
    load_back: LoadBack = lambda folder, repo_id, revision: None,
    token: str | None = None,
    endpoint: str | None = None,
) -> Published:
    """Publish one folder in the steps of `publish_release`."""
    plan_folder(folder)
    api = HfApi(endpoint=endpoint, token=token, library_name="sae-traits")
    with errors_in_one_line(repo_id, api.endpoint):
        repository = open_repository(api, repo_id, repo_type, private=private, gated=None)
        return carry_out(prepare(repository, folder, None), message="Publish", load_back=load_back)


def write_sae(folder: Path) -> Path:
    """A folder with an untrained SAE and a card."""
    SAE.from_config(SAEConfig(architecture="topk", d_model=4, n_latents=8, k=2), seed=0).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlibrary_name: sae-traits\n---\n# SAE\n")
    return folder


def write_dataset(folder: Path, sae: str, n_rows: int) -> Path:
    """A dataset folder of two configs; a value that is not a number, and nulls, are among its rows."""
    shutil.rmtree(folder, ignore_errors=True)
    rows = [
        {
            "image": Picture.new("RGB", (8, 6), (number, 30, 30)),
            "text": "red" if number else None,
            "box": [1, 2, 3, 4],
            "attributes": [{"name": "colour", "value": "red"}] * number,
            "q_value": float("nan") if number == 1 else None if number == 2 else 0.5,
            "sae": sae,
        }
        for number in range(n_rows)
    ]
    for path, some in (("default/train", rows), ("default/test", rows[:2])):
        file = folder / "data" / f"{path}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_list(some, features=FEATURES).to_parquet(file)
    (folder / "data" / "latents").mkdir()
    Dataset.from_dict({"latent": [3, 5, 8]}).to_parquet(folder / "data/latents/train-00000-of-00001.parquet")
    (folder / "README.md").write_text(CARD)
    return folder


def write_site(folder: Path, n_pages: int) -> Path:
    """A static site of so many pages."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    for number in range(n_pages):
        (folder / (f"index-{number}.html" if number else "index.html")).write_text(f"<p>{number}")
    (folder / "data" / "search.js").write_text(f"atlas.search={n_pages}")
    Picture.new("RGB", (8, 6)).save(folder / "picture.webp")
    return folder


def main() -> None:
    """Publish until stdin ends."""
    folder = Path(sys.argv[1])
    model_folder = write_sae(folder / "sae")
    for line in sys.stdin:
        values = json.loads(line)
        n_rows = values.pop("n_rows")
        shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)
        HfFileSystem.clear_instance_cache()
        answer: dict[str, object]
        try:
            done = publish_release(
                model_folder,
                lambda sae, n=n_rows: write_dataset(folder / "dataset", sae, n),
                Terms(**values),
                lambda n=n_rows: write_site(folder / "site", n),
            )
            answer = {"published": [[one.revision, one.tag, one.changed] for one in done.parts.values()]}
        except SaeTraitsError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
