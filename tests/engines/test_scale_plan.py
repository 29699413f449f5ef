"""The plan of a collection: the arithmetic that it shows is the one that it does."""

import pytest
import yaml

from sae_traits.cli import main
from sae_traits.config.layers import recipe_file
from sae_traits.engines.plan import SHIPPED, CollectionPlan, Rates
from sae_traits.errors import ConfigError


def test_the_papers_rates_give_two_answers_that_do_not_agree():
    plan = CollectionPlan(5_150_850, 64, Rates.read("paper"))
    low, high = sorted(plan.totals.values())
    features = 5_150_850 / 137.7 / 3600
    assert high == pytest.approx(features + 4 * 5_150_850 / 208.9)
    assert low == pytest.approx(features + 4 * 5_150_850 / 389.6)
    lines = plan.lines()
    assert "warning       rates of descriptions do not agree: 1.9 times from low to high" in lines
    assert any(line.startswith("training      not counted") for line in lines)
    assert plan.bytes["features"][0] == 5_150_850 * 256 * 768 * 2


@pytest.mark.parametrize("name", SHIPPED)
def test_twice_the_workers_take_half_the_time_and_cost_the_same(name):
    one, two = (CollectionPlan(10**6, n, Rates.read(name)).to_dict() for n in (4, 8))
    for label, total in one["totals"].items():
        assert two["totals"][label]["wall_hours"] == pytest.approx(total["wall_hours"] / 2)
        assert two["totals"][label]["price"] == total["price"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images_per_second": 0}, "images_per_second: Input should be greater than 0, not 0"),
        ({"images_per_second": None}, "images_per_second: Input should be a valid number, not None"),
        ({"images_per_second": "fast"}, "images_per_second: .*, not 'fast'"),
        ({"price_per_worker_hour": -1}, "price_per_worker_hour: Input should be greater than or equal to 0, not -1"),
        ({"annotations_per_hour": 390}, "annotations_per_hour: .*, not 390"),
        ({"annotations_per_hour": {}}, "annotations_per_hour: .* at least 1 item"),
        ({"unknown": 1}, "must say each of these"),
    ],
)
def test_a_file_of_rates_that_cannot_be_used_is_refused(tmp_path, change, message):
    values = yaml.safe_load(recipe_file("rates/measured.yaml").read_text())
    (tmp_path / "rates.yaml").write_text(yaml.safe_dump(values | change))
    with pytest.raises(ConfigError, match=message):
        Rates.read(str(tmp_path / "rates.yaml"))
    with pytest.raises(ConfigError, match=r"there is no file .*absent.yaml; name one, or measured or paper"):
        Rates.read(str(tmp_path / "absent.yaml"))


def test_a_file_of_rates_may_say_numbers_as_people_write_them_and_what_is_free(tmp_path):
    values = yaml.safe_load(recipe_file("rates/measured.yaml").read_text()) | {"price_per_worker_hour": 0}
    text = yaml.safe_dump(values).replace("images_per_second: 3.53", "images_per_second: 1e3")
    (tmp_path / "rates.yaml").write_text(text)
    rates = Rates.read(str(tmp_path / "rates.yaml"))
    assert rates.images_per_second == 1000  # which YAML takes for a text
    assert rates.price_per_worker_hour == 0
    assert CollectionPlan(10**6, 1, rates).lines()


def test_the_command_prints_the_plan(capsys):
    assert main(["plan", "--specimens", "214000000", "--gpus", "512", "--rates", "paper"]) == 0
    assert "214,000,000 images / 137.7 per s" in capsys.readouterr().out
