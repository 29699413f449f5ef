"""The whole pipeline on the drawn world, several seeds, beside a null world in which the labels are shuffled.

Prints the tables of docs/experiments.md. A few minutes per seed on two cores:

    python benchmarks/drawn_world.py [--seeds 3]
"""

import argparse
import csv
import json
import random
import shutil
import tempfile
from pathlib import Path

from tables import describe_machine, markdown_table

from sae_traits.config import RunConfig
from sae_traits.config.layers import read_config, recipe_file
from sae_traits.config.tree import build
from sae_traits.runs.context import Context
from sae_traits.steps import STEPS, run_steps
from sae_traits.testbench.demo import DRAWN_CLIP
from sae_traits.testbench.drawn import draw_collection
from sae_traits.testbench.truth import DrawnTruth

CONDITIONS = ("name only", "name + traits", "name + another species' traits")
FOUND = (
    "world", "seed", "recall of diagnostic traits", "at random", "regions on the background", "traits with q <= 0.05",
)  # fmt: skip
ZERO_SHOT = ("world", "seed", *CONDITIONS, "gain over species", "p (random deals)")
NAMING = ("attribute", "right", "always the commonest", "named")
LABELS = ("species", "genus", "family", "order")


def shuffle_labels(collection: Path, seed: int) -> None:
    """Deal the labels of the images at random: nothing that is seen says anything about the species any more."""
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
        # In the null world no latent is significant; what the others come to is what is asked there.
        "regions": {"contrast": {"significant_only": False}},
        "zero_shot": {"clip": str(DRAWN_CLIP)},
    }
    config = build(RunConfig, read_config(recipe_file("demo.yaml")), given)
    context = Context.create(folder, config, STEPS, extra_tasks=(DrawnTruth(),))
    with context.writing():
        run_steps(context)
    return json.loads(context.folder.results.read_text())


def interval(values: dict) -> str:
    """mean [low, high]; a dash where there is none."""
    return "–" if values["mean"] is None else f"{values['mean']:.3f} [{values['low']:.3f}, {values['high']:.3f}]"


def found_row(world: str, seed: int, results: dict) -> list[str]:
    """What was found: diagnostic traits, where regions lie, and how many traits are significant."""
    traits = results["annotation"]
    significant = f"{traits['n_significant']} of {traits['n_traits']}"
    if world == "null":  # its labels say nothing, so there is nothing to find
        return [world, str(seed), "", "", "", significant]
    drawn = results["extra"]["drawn"]["values"]
    recall, location = drawn["recall"][0], {row["where"]: row["regions"] for row in drawn["location"]}
    return [
        world,
        str(seed),
        interval(recall["regions"]),
        f"{recall['random']['mean']:.3f}",
        interval(location["on the background"]),
        significant,
    ]


def zero_shot_row(world: str, seed: int, results: dict) -> list[str]:
    """Top-1 of the conditions, and whether the traits help."""
    zero_shot = results["tasks"]["zero_shot"]
    top1 = {score["name"]: score["top"]["1"] for score in zero_shot["conditions"]}
    gain = next(c for c in zero_shot["comparisons"] if c["condition"] == "name + traits")
    return [
        world,
        str(seed),
        *(interval(top1[name]) for name in CONDITIONS),
        interval(gain["over_species"]),
        f"{zero_shot['dealt']['p_value']:.3f}",
    ]


def naming_row(naming: dict) -> list[str]:
    """How often an attribute is named right."""
    majority = naming["majority_accuracy"]
    return [
        naming["attribute"],
        interval(naming["accuracy"]),
        "–" if majority is None else f"{majority:.3f} ({naming['majority_value']})",
        f"{naming['n_named']} of {naming['n_rows']}",
    ]


def main() -> None:
    """Run the worlds and print three Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    found, zero_shot, naming = [], [], []
    for world in ("drawn", "null"):
        for seed in range(arguments.seeds):
            folder = Path(tempfile.mkdtemp(prefix="drawn-world-"))
            results = run_world(folder, seed, null=world == "null")
            shutil.rmtree(folder)
            found.append(found_row(world, seed, results))
            zero_shot.append(zero_shot_row(world, seed, results))
            if world == "drawn" and seed == 0:
                naming = [naming_row(row) for row in results["extra"]["drawn"]["values"]["naming"]]
    tables = markdown_table(FOUND, found), markdown_table(ZERO_SHOT, zero_shot), markdown_table(NAMING, naming)
    print(describe_machine(), *tables, sep="\n\n")


if __name__ == "__main__":
    main()
