"""The whole pipeline on the drawn world, several seeds, beside a null world in which the labels are shuffled.

Prints the table of docs/quality.md. A few minutes a seed on two cores: python benchmarks/drawn_world.py [--seeds 3]
"""

import argparse
import csv
import json
import random
import shutil
import tempfile
from pathlib import Path

from sae_traits import pipeline
from sae_traits.collections.drawn import draw_collection
from sae_traits.config import read_config, resolve
from sae_traits.evaluation.demo_clip import DRAWN_CLIP
from sae_traits.run import Run

CONDITIONS = ("name only", "name + traits", "name + another species' traits")
LABELS = ("species", "genus", "family", "order")


def shuffle_labels(collection: Path, seed: int) -> None:
    """Deal the labels of the specimens at random: nothing that is seen says anything about the species any more."""
    table = collection / "metadata.csv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = [{name: row[name] for name in LABELS} for row in rows]
    random.Random(seed).shuffle(labels)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(row | label for row, label in zip(rows, labels, strict=True))


def run_world(folder: Path, seed: int, *, null: bool) -> dict:
    """Draw, run and score one world; what results.json holds."""
    draw_collection(folder / "collection", seed=seed)
    if null:
        shuffle_labels(folder / "collection", seed)
    given = {
        "collection": {"source": str(folder / "collection"), "split_seed": seed},
        "train": {"seed": seed},
        "zero_shot": {"clip": str(DRAWN_CLIP)},
    }
    run = Run.create(folder, resolve(read_config(pipeline.recipe_file("demo.yaml")), given))
    pipeline.run_all(run)
    return json.loads((run.evaluation / "results.json").read_text())


def interval(values: dict) -> str:
    """mean [low, high]."""
    return f"{values['mean']:.3f} [{values['low']:.3f}, {values['high']:.3f}]"


def main() -> None:
    """Run the worlds and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    rows = []
    for null in (False, True):
        for seed in range(arguments.seeds):
            folder = Path(tempfile.mkdtemp(prefix="drawn-world-"))
            results = run_world(folder, seed, null=null)
            shutil.rmtree(folder)
            zero_shot = results["zero_shot"]
            top1 = {score["condition"]: score["top"]["1"] for score in zero_shot["conditions"]}
            gain = next(c for c in zero_shot["comparisons"] if c["condition"] == "name + traits")
            recall = results["drawn"]["recall"][0]
            rows.append(
                [
                    "null" if null else "drawn",
                    str(seed),
                    "" if null else f"{interval(recall['regions'])} / {recall['random']['mean']:.3f}",
                    *(
                        interval(top1[name])
                        for name in ("name only", "name + traits", "name + another species' traits")
                    ),
                    interval(gain["over_species"]),
                    f"{zero_shot['dealt']['p_value']:.3f}",
                    f"{results['traits']['n_significant']} of {results['traits']['n_traits']}",
                ]
            )
    header = [
        "world", "seed", "recall of diagnostic traits / random", "name only", "name + traits", "shuffled traits",
        "gain over species", "p (random deals)", "significant traits",
    ]  # fmt: skip
    print("\n| " + " | ".join(header) + " |\n|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
