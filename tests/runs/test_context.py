import pytest

from sae_traits.config import RunConfig
from sae_traits.config.command_line import command_of
from sae_traits.config.tree import build
from sae_traits.errors import CollectionError, ConfigError, StoreError
from sae_traits.runs.context import Context
from sae_traits.schema import Collection, ImageRecord, Taxon
from sae_traits.steps import STEPS


def create(folder, source, **sections):
    return Context.create(folder, build(RunConfig, {"collection": {"source": str(source)}, **sections}), STEPS)


def collect(context, root):
    """Do the step `collect`, with one image."""
    record = ImageRecord(
        image_id="1", file="1.png", taxon=Taxon(species="Aus bus"), split="train", width=9, height=9, sha256="0"
    )

    def work():
        Collection(root, (record,)).save(context.folder.images)
        return {}

    context.steps.do("collect", {"root": str(root)}, [context.folder.images], work)


def test_the_cache_of_images_stays_where_it_is_when_the_run_is_continued_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    config = build(RunConfig, {"collection": {"source": "hf://datasets/a/b", "image_cache": "cache"}})
    Context.create(tmp_path / "run", config, STEPS)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Context.open(tmp_path / "run", STEPS).config.collection.image_cache == str(tmp_path / "cache")


def test_a_run_keeps_absolute_paths_and_can_be_opened_again(tmp_path, monkeypatch):
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    run = create(tmp_path / "run", "images", features={"backbone": {"layer": 3}})
    assert run.config.collection.source == str(tmp_path / "images")
    again = Context.open(tmp_path / "run", STEPS)
    assert (again.folder.path, again.config) == (run.folder.path, run.config)
    changed = Context.open(tmp_path / "run", STEPS, {"train": {"architecture": {"k": "4"}}})
    assert (changed.config.train.architecture.k, changed.config.features.backbone.layer) == (4, 3)
    assert Context.open(tmp_path / "run", STEPS).config == run.config, "nothing is kept before it has worked"
    changed.save_config()
    assert Context.open(tmp_path / "run", STEPS).config == changed.config


def test_an_unchanged_configuration_is_not_written_again(tmp_path):
    run = create(tmp_path / "run", "hf://datasets/a/b")
    written = run.folder.config.stat()
    run.save_config()
    assert run.folder.config.stat().st_ino == written.st_ino


def test_a_configuration_that_was_edited_holds_and_is_told_from_one_that_was_written(tmp_path, caplog):
    run = create(tmp_path / "run", "hf://datasets/a/b")
    Context.open(tmp_path / "run", STEPS)
    assert caplog.text == ""
    text = run.folder.config.read_text()
    run.folder.config.write_text(text.replace("traits_per_image: 5", "traits_per_image: 4"))
    assert Context.open(tmp_path / "run", STEPS).config.regions.traits_per_image == 4
    assert f"{run.folder.config} was changed since the last command wrote it" in caplog.text
    caplog.clear()
    Context.open(tmp_path / "run", STEPS).save_config()
    caplog.clear()
    Context.open(tmp_path / "run", STEPS)
    assert caplog.text == ""


def test_a_configuration_that_is_missing_is_named(tmp_path, caplog):
    (tmp_path / "images").mkdir()
    run = create(tmp_path / "run", tmp_path / "images")
    collect(run, tmp_path / "images")
    run.folder.config.unlink()
    create(tmp_path / "run", tmp_path / "images")
    assert f"{run.folder.config} is missing" in caplog.text


def test_what_another_command_changes_while_it_is_read_is_found(tmp_path):
    (tmp_path / "images").mkdir()
    run = create(tmp_path / "run", tmp_path / "images")
    collect(run, tmp_path / "images")
    with run.reading("collect"):
        pass
    other = Context.open(tmp_path / "run", STEPS)
    with pytest.raises(StoreError, match="another command has changed"), run.reading("collect"):
        collect(other, tmp_path / "another place")
    with pytest.raises(StoreError, match="another command has changed"), run.reading("collect"):
        other.folder.images.write_bytes(b"half-way")


def test_a_folder_takes_runs_of_one_source_only(tmp_path):
    for source in ("one", "two"):
        (tmp_path / source).mkdir()
    create(tmp_path / "run", tmp_path / "a typing error")
    run = create(tmp_path / "run", tmp_path / "one")
    with run.writing():
        collect(run, tmp_path / "one")
    with pytest.raises(ConfigError, match=r"is a run of .*one; choose another --out for .*two"):
        create(tmp_path / "run", tmp_path / "two")


def test_a_run_goes_on_where_its_source_has_moved_to(tmp_path):
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "1.png").touch()
    run = create(tmp_path / "run", tmp_path / "before")
    collect(run, tmp_path / "before")
    run.collection.check_images_are_there()
    (tmp_path / "before").rename(tmp_path / "after")
    repair = rf"no longer in {tmp_path}/before; .* `sae-traits run NEW_PLACE --out {tmp_path}/run` goes on with them"
    with pytest.raises(CollectionError, match=repair):
        run.collection.check_images_are_there(str(run.folder.path))
    with pytest.raises(ConfigError, match=repair):
        create(tmp_path / "run", tmp_path / "nowhere")
    moved = create(tmp_path / "run", tmp_path / "after")
    assert moved.has_moved
    assert moved.config.collection.source == str(tmp_path / "after")
    with moved.writing():
        assert moved.steps.is_current("collect"), "the same images"
        assert not moved.steps.changed_files("collect"), "which are not read yet"
    assert Context.open(tmp_path / "run", STEPS).config.collection.source == str(tmp_path / "before")


def with_k(folder, k):
    """A run of the folder `images` beside it, its SAE of k latents per patch."""
    (folder.parent / "images").mkdir(exist_ok=True)
    return create(folder, folder.parent / "images", train={"architecture": {"k": k}})


def train(context, work=dict):
    """Do the steps up to `train`, which writes one file."""
    collect(context, context.folder.path)
    context.steps.do("extract", {}, [], dict)
    k, weights = context.config.train.architecture.k, context.folder.path / "weights"
    context.steps.do("train", {"k": k}, [weights], lambda: weights.write_text(f"k {k}") and work())


def trained(folder):
    run = with_k(folder, 8)
    with run.writing():
        train(run)
    return run


def kept(context):
    return context.folder.config.read_text(), context.folder.steps.read_text()


@pytest.mark.parametrize("reason", [ConfigError("no such model"), KeyboardInterrupt()])
def test_a_run_with_other_options_that_cannot_start_stays_as_it_was(tmp_path, reason):
    run = trained(tmp_path / "run")
    before = kept(run)
    with pytest.raises(type(reason)), with_k(tmp_path / "run", 4).writing():
        raise reason
    assert kept(run) == before


def test_other_options_are_kept_when_a_step_that_they_change_begins(tmp_path):
    run = trained(tmp_path / "run")
    former, steps = kept(run)
    seen = []

    def killed():
        seen.append(run.folder.config.read_text())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), (other := with_k(tmp_path / "run", 4)).writing():
        train(other, killed)
    assert "k: 4\n" in seen[0], "so that whoever finds its files knows that they may be of these options"
    assert kept(run) == (seen[0], steps)
    with (back := with_k(tmp_path / "run", 8)).writing():
        train(back)
        back.save_config()
    assert kept(run)[0] == former


def refuse():
    raise ConfigError("nobody answers")


def test_a_step_that_fails_before_it_changed_anything_leaves_the_run_finished(tmp_path):
    run = trained(tmp_path / "run")
    before = kept(run)
    with pytest.raises(ConfigError, match="nobody answers"), (other := with_k(tmp_path / "run", 4)).writing():
        other.steps.do("train", {"k": 4}, [tmp_path / "run" / "weights"], refuse)
    assert kept(run) == before
    with pytest.raises(ConfigError, match="nobody answers"), (other := with_k(tmp_path / "run", 4)).writing():
        train(other, refuse)  # which has written by then
    assert "k: 4\n" in kept(run)[0]


def test_options_that_make_the_same_are_recorded_with_the_configuration_and_not_before(tmp_path):
    def do(context, then=lambda: None):
        context.steps.do("train", {}, [], dict)
        then()

    do(run := trained(tmp_path / "run"))
    before = kept(run)
    with pytest.raises(ConfigError), (other := with_k(tmp_path / "run", 4)).writing():
        do(other, refuse)
    assert kept(run) == before
    with (other := with_k(tmp_path / "run", 4)).writing():
        do(other)
        other.save_config()
    assert "k: 4\n" in kept(run)[0]
    Context.open(tmp_path / "run", STEPS).steps.refuse_other_options(["train"])


@pytest.mark.parametrize("out", ["photographs", "photographs/runs/first"])
def test_a_run_does_not_lie_among_the_images(tmp_path, out):
    (tmp_path / "photographs").mkdir()
    with pytest.raises(ConfigError, match="where images are looked for"):
        create(tmp_path / out, tmp_path / "photographs")
    assert list((tmp_path / "photographs").iterdir()) == []
    create(tmp_path / "photographs-run", tmp_path / "photographs")


def test_what_is_no_run_and_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(StoreError, match=r"is not a run: it has no config.yaml; make one with `sae-traits extract`"):
        Context.open(tmp_path, STEPS)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot write to .*file/run: .*; choose another --out"):
        create(tmp_path / "file" / "run", "hf://datasets/a/b")


def test_masks_that_are_to_be_used_must_be_there(tmp_path):
    run = create(tmp_path / "run", "hf://datasets/a/b", describer={"use_masks": True})
    collect(run, tmp_path)
    with pytest.raises(ConfigError, match="no image of the collection has a mask"):
        run.check_masks()


def test_the_command_names_the_source_and_the_options_that_matter(tmp_path):
    options = {
        "features": {"backbone": {"layer": -2}, "workers": 7},
        "train": {"architecture": {"k": 4}},
    }
    config = create(tmp_path / "run", "a folder", **options).config
    assert command_of(config) == "sae-traits run 'a folder' --layer -2 --k 4"


def test_the_ledger_is_added_up_once_per_command(tmp_path):
    run = create(tmp_path / "run", "hf://datasets/a/b", features={"backbone": "texture"})
    assert run.calls.n_calls == 0
    assert run.calls is run.calls
