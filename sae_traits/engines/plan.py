"""What a collection of any size takes on so many workers, by rates that were measured or reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveInt, TypeAdapter, ValidationError

from sae_traits.config.layers import read_yaml, recipe_file
from sae_traits.errors import ConfigError
from sae_traits.logging import duration

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
SHIPPED = ("measured", "paper")
"""Files of rates that come with the package."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How fast one worker is, and how much is written; see recipes/rates/ for a file of each."""

    source: str
    worker: str
    """What one is: a GPU, or so many cores."""
    price_per_worker_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    d_model: PositiveInt
    patches_per_image: PositiveInt
    bytes_per_value: PositiveInt
    codes_per_patch: Positive
    """Latents above their thresholds."""
    bytes_per_code: Positive
    images_per_second: Positive
    """Whose features a worker computes."""
    encoded_patches_per_second: Positive | None
    """Whose codes a worker computes; None where that is in `images_per_second`."""
    training_patches: PositiveInt
    training_patches_per_second: Positive | None
    """None where it is not known, and then not counted."""
    annotated_share: Positive
    """Of the images, which are described."""
    annotations_per_image: Positive
    annotations_per_hour: Annotated[Mapping[str, Positive], Field(min_length=1)]
    """Of one worker; several where sources do not agree, each with where it is from."""
    bytes_per_annotation: Positive
    bytes_per_picture: Positive

    @classmethod
    def read(cls, name: str) -> Rates:
        """Read a file, or one of SHIPPED by its name.

        Raises:
            ConfigError: it cannot be read, lacks a rate, or has one that is no such number.
        """
        path = recipe_file(f"rates/{name}.yaml") if name in SHIPPED else Path(name)
        if not path.is_file():
            raise ConfigError(f"there is no file {path}; name one, or {' or '.join(SHIPPED)}")
        values = read_yaml(path)
        known = [field.name for field in fields(cls)]
        if not isinstance(values, dict) or set(values) != set(known):
            raise ConfigError(f"{path} must say each of these, and nothing else: {', '.join(known)}")
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(f"{path}: {first['loc'][0]}: {first['msg']}, not {first['input']!r}") from error


@dataclass(frozen=True, kw_only=True)
class Part:
    """One step of a plan."""

    name: str
    worker_hours: float
    n_workers: int
    arithmetic: str

    @property
    def wall_hours(self) -> float:
        """With all workers busy to the end."""
        return self.worker_hours / self.n_workers

    @property
    def wall(self) -> str:
        """The same in words."""
        return duration(3600 * self.wall_hours)


@dataclass(frozen=True)
class CollectionPlan:
    """Bytes, hours and price of a collection."""

    n_specimens: int
    n_workers: int
    rates: Rates

    @property
    def steps(self) -> tuple[Part, ...]:
        """Every step; descriptions once per rate."""
        n, r = self.n_specimens, self.rates
        found = [self._part("features", n / r.images_per_second, f"{n:,} images / {r.images_per_second:g} per s")]
        if (speed := r.training_patches_per_second) is not None:
            arithmetic = f"{r.training_patches:,} patches / {speed:g} per s"
            found.append(self._part("training", r.training_patches / speed, arithmetic))
        if (speed := r.encoded_patches_per_second) is not None:
            seconds = n * r.patches_per_image / speed
            arithmetic = f"{n:,} images x {r.patches_per_image} patches / {speed:g} per s"
            found.append(self._part("codes", seconds, arithmetic))
        for label, rate in r.annotations_per_hour.items():
            seconds = 3600 * self.n_annotations / rate
            found.append(self._part("descriptions", seconds, f"{self.n_annotations:,} / {rate:,g} per hour ({label})"))
        return tuple(found)

    def _part(self, name: str, seconds: float, arithmetic: str) -> Part:
        return Part(name=name, worker_hours=seconds / 3600, n_workers=self.n_workers, arithmetic=arithmetic)

    @property
    def n_annotations(self) -> int:
        """Descriptions to be made."""
        return round(self.n_specimens * self.rates.annotated_share * self.rates.annotations_per_image)

    @property
    def totals(self) -> dict[str, float]:
        """Worker hours of all steps, by each rate of descriptions."""
        before = sum(step.worker_hours for step in self.steps if step.name != "descriptions")
        return {label: before + self.n_annotations / rate for label, rate in self.rates.annotations_per_hour.items()}

    @property
    def bytes(self) -> dict[str, tuple[float, str]]:
        """What is written, with the arithmetic."""
        n, r = self.n_specimens, self.rates
        n_patches = n * r.patches_per_image
        return {
            "features": (
                n_patches * r.d_model * r.bytes_per_value,
                f"{n:,} x {r.patches_per_image} patches x {r.d_model} values x {r.bytes_per_value} bytes; none with "
                "--stream, which computes them again for the codes",
            ),
            "codes": (
                n_patches * r.codes_per_patch * r.bytes_per_code,
                f"{n:,} x {r.patches_per_image} patches x {r.codes_per_patch:g} codes x {r.bytes_per_code:g} bytes",
            ),
            "dataset": (
                self.n_annotations * r.bytes_per_annotation + n * r.bytes_per_picture,
                f"{self.n_annotations:,} rows x {r.bytes_per_annotation:g} bytes + {n:,} pictures x "
                f"{r.bytes_per_picture:g} bytes; the rows alone by reference",
            ),
        }

    def to_dict(self) -> dict[str, Any]:
        steps = [asdict(step) | {"wall_hours": step.wall_hours} for step in self.steps]
        totals = {
            label: {
                "worker_hours": hours,
                "wall_hours": hours / self.n_workers,
                "price": hours * self.rates.price_per_worker_hour,
            }
            for label, hours in self.totals.items()
        }
        written = {name: {"bytes": n, "arithmetic": text} for name, (n, text) in self.bytes.items()}
        about = {"n_specimens": self.n_specimens, "n_workers": self.n_workers, "rates": asdict(self.rates)}
        return about | {"steps": steps, "totals": totals, "bytes": written}

    def lines(self) -> list[str]:
        r = self.rates
        lines = [f"rates         {r.source}", f"workers       {self.n_workers:,}, each {r.worker}"]
        if r.training_patches_per_second is None:
            lines.append("training      not counted: these rates do not say how fast it is")
        lines += [
            f"{step.name:13} {step.worker_hours:,.1f} worker hours, {step.wall}: {step.arithmetic}"
            for step in self.steps
        ]
        for label, hours in self.totals.items():
            price = f"{hours:,.0f} h x {r.price_per_worker_hour:g} = {hours * r.price_per_worker_hour:,.0f}"
            wall = f"{duration(3600 * hours / self.n_workers)} with all workers busy to the end"
            lines.append(f"in all        {wall}, price {price} ({label})")
        rates = sorted(r.annotations_per_hour.values())
        if len(rates) > 1 and rates[-1] > 1.1 * rates[0]:
            ratio = rates[-1] / rates[0]
            lines.append(f"warning       rates of descriptions do not agree: {ratio:.1f} times from low to high")
        return [*lines, *(f"{name:13} {n / 1e12:,.3f} TB: {text}" for name, (n, text) in self.bytes.items())]
