"""A release as its readers meet it: an SAE, the dataset that names its commit, an atlas of that, and a collection."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from huggingface_hub import HfApi, SpaceCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from sae_traits.config.tree import public_name
from sae_traits.errors import ConfigError
from sae_traits.io import copy_folder_to_write
from sae_traits.release.cards import CARD, marked_section, section_of, with_front_matter
from sae_traits.release.folder_plan import check_version, plan_folder, refuse_secrets
from sae_traits.release.hub import (
    Gating,
    Published,
    Release,
    Repository,
    RepoType,
    carry_out,
    open_repository,
    prepare,
    tag_taken,
)
from sae_traits.release.hub_errors import errors_in_one_line
from sae_traits.release.load_back import load_back_clip, load_back_dataset, load_back_saes, load_back_site
from sae_traits.sae.formats.files import read_settings
from sae_traits.sae.model import CONFIG_FILE, SAEConfig
from sae_traits.sae.sweep_folder import SWEEP_FILE, read_sweep
from sae_traits.schema import BackboneInfo, Collection

_CACHED_MODEL = re.compile(r"/models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})/*$")


@dataclass(frozen=True, kw_only=True)
class ModelTerms:
    """How a model is made public."""

    model_repo: str
    private: bool = False
    gated: Gating | None = None
    """Readers ask for access, which is granted at once (auto) or by hand; None leaves the repositories as they are."""
    tag: str | None = None
    """Version of all, as vX.Y.Z; None gives each the next patch version where it changes."""
    collection: str | None = None
    """Title of a collection of the model's namespace, which is made where there is none."""

    def __post_init__(self) -> None:
        _check_name("--model-repo", self.model_repo)
        if self.tag is not None:
            check_version(self.tag)


@dataclass(frozen=True, kw_only=True)
class Terms(ModelTerms):
    """How the release of a run is made public; the model is the SAE."""

    dataset_repo: str
    space_repo: str | None = None
    """A static Space for the atlas; None publishes none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_name("--dataset-repo", self.dataset_repo)
        if self.space_repo is not None:
            _check_name("--space", self.space_repo)


def _check_name(option: str, repo_id: str) -> None:
    """Raise a ConfigError for what the Hub would refuse as a name, so that a dry run says it, too."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfigError(f"{repo_id!r} is not the name of a repository; write {option} as ORG/NAME") from error
    if "/" not in repo_id:
        raise ConfigError(f"{repo_id!r} does not say whose repository it is; write {option} as ORG/NAME")


@dataclass(frozen=True)
class PublishedRelease:
    """What is on the Hub."""

    model: Published
    dataset: Published
    space: Published | None
    collection_url: str | None

    @property
    def parts(self) -> dict[RepoType, Published]:
        """In the order in which they were published."""
        parts: dict[RepoType, Published] = {"model": self.model, "dataset": self.dataset}
        if self.space is not None:
            parts["space"] = self.space
        return parts

    def lines(self) -> list[str]:
        """What happened, and how to load it, for the terminal."""
        return [
            *(part.line() for part in self.parts.values()),
            *([f"collection {self.collection_url}"] if self.collection_url else []),
            f'SAE.from_pretrained("{self.model.repo_id}", revision="{self.model.tag}")',
            f'load_dataset("{self.dataset.repo_id}", revision="{self.dataset.tag}")',
        ]


def publish_release(
    model_folder: Path, write_dataset: Callable[[str], Path], terms: Terms, write_site: Callable[[], Path] | None = None
) -> PublishedRelease:
    """Publish an SAE, then the dataset that names its commit, then the site of an atlas of it, then their collection.

    Nothing is uploaded before all repositories are there, with cards whose sections can be kept, and the tag is known
    to be free. Any failure is mended by doing the same again; when all of it is on the Hub already, nothing changes.

    Raises:
        ReleaseError: a folder, a repository or the tag cannot be used, what was uploaded is not what came back, or the
            Hub refuses or cannot be reached.
    """
    plan_folder(model_folder)
    api = HfApi(library_name="sae-traits")
    with errors_in_one_line(terms.model_repo, api.endpoint):
        model_repo = open_repository(api, terms.model_repo, "model", private=terms.private, gated=terms.gated)
    with errors_in_one_line(terms.dataset_repo, api.endpoint):
        dataset_repo = open_repository(api, terms.dataset_repo, "dataset", private=terms.private, gated=terms.gated)
        _check_section(dataset_repo)
        _, other_tags = dataset_repo.branches_and_tags()
    space_repo = None
    if terms.space_repo is not None and write_site is not None:
        with errors_in_one_line(terms.space_repo, api.endpoint):
            space_repo = open_repository(api, terms.space_repo, "space", private=terms.private, gated=None)
            _check_section(space_repo)
            other_tags += space_repo.branches_and_tags()[1]
    with errors_in_one_line(terms.model_repo, api.endpoint):
        model_release = prepare(model_repo, model_folder, terms.tag)

    def prepare_dataset(model_revision: str) -> Release:
        folder = write_dataset(f"{model_repo.repo_id}@{model_revision}")
        with errors_in_one_line(terms.dataset_repo, api.endpoint):
            return prepare(dataset_repo, folder, terms.tag)

    # A taken tag is to be found before anything changes. The others name the SAE's commit, so they change with it.
    if model_release.changed and terms.tag in other_tags:
        raise tag_taken(dataset_repo, terms.tag)
    dataset_release = None if model_release.changed else prepare_dataset(model_release.tagged or model_release.head)
    with errors_in_one_line(terms.model_repo, api.endpoint):
        model = carry_out(model_release, message="Publish an SAE with sae-traits", load_back=load_back_saes)
    dataset_release = dataset_release or prepare_dataset(model.revision)
    with errors_in_one_line(terms.dataset_repo, api.endpoint):
        message = "Publish an image-trait dataset with sae-traits"
        dataset = carry_out(dataset_release, message=message, load_back=load_back_dataset)
    space = None
    if space_repo is not None and write_site is not None:
        with errors_in_one_line(space_repo.repo_id, api.endpoint):
            site = write_site()
            write_space_card(site, terms)
            message = "Publish an atlas of traits with sae-traits"
            space = carry_out(prepare(space_repo, site, terms.tag), message=message, load_back=load_back_site)
    release = PublishedRelease(model, dataset, space, None)
    if terms.collection is not None:
        with errors_in_one_line(f"the collection {terms.collection}", api.endpoint):
            release = replace(release, collection_url=_collect(api, terms, terms.collection, release.parts))
    return release


def _check_section(repository: Repository) -> None:
    """Raise a ReleaseError where the card of a repository has lost a mark of the section that a person wrote."""
    head = repository.commit_of("main")
    if CARD in repository.tree(head):
        section_of(repository.text_of(CARD, head), repository.url)


def publish_model(folder: Path, terms: ModelTerms) -> tuple[Published, str | None]:
    """Publish a CLIP by itself, in the same order; and the address of its collection, where there is one.

    Raises:
        ReleaseError: as of `publish_release`.
    """
    plan_folder(folder)
    api = HfApi(library_name="sae-traits")
    with errors_in_one_line(terms.model_repo, api.endpoint):
        repository = open_repository(api, terms.model_repo, "model", private=terms.private, gated=terms.gated)
        release = prepare(repository, folder, terms.tag)
        published = carry_out(release, message="Publish a CLIP with sae-traits", load_back=load_back_clip)
    if terms.collection is None:
        return published, None
    with errors_in_one_line(f"the collection {terms.collection}", api.endpoint):
        return published, _collect(api, terms, terms.collection, {"model": published})


def write_space_card(site: Path, terms: Terms) -> None:
    """Write the README.md by which the Hub shows a folder as a static Space."""
    front = SpaceCardData(
        title=f"Atlas of {terms.dataset_repo.split('/')[1]}",
        sdk="static",
        app_file="index.html",
        models=[terms.model_repo],
        datasets=[terms.dataset_repo],
        tags=["sae-traits", "biology", "traits"],
    )
    body = f"The atlas of the dataset [{terms.dataset_repo}](https://huggingface.co/datasets/{terms.dataset_repo}).\n\n"
    (site / CARD).write_text(with_front_matter(front, f"{body}{marked_section(None)}\n"), encoding="utf-8")


def _collect(api: HfApi, terms: ModelTerms, title: str, parts: Mapping[RepoType, Published]) -> str:
    """Find or make the collection of that title, and put all into it; its address."""
    namespace = parts["model"].repo_id.split("/")[0]
    slug = next((found.slug for found in api.list_collections(owner=namespace) if found.title == title), None)
    # Not exists_ok, here and below: the Hub also answers "conflict" when it is busy, and then nothing is there.
    collection = (
        api.get_collection(slug) if slug else api.create_collection(title, namespace=namespace, private=terms.private)
    )
    present = {(item.item_type, item.item_id) for item in collection.items}
    for kind, part in parts.items():
        if (kind, part.repo_id) not in present:
            api.add_collection_item(collection.slug, part.repo_id, kind)
    return collection.url


def plan_lines(terms: ModelTerms, folders: Sequence[tuple[RepoType, str, Path]]) -> list[str]:
    """What publishing these folders would make public: kind and name of a repository, and its folder.

    Talks to no one.
    """
    lines = []
    for kind, repo_id, folder in folders:
        files = plan_folder(folder)
        refuse_secrets(folder, files)
        lines.append(f"{kind} {repo_id}: {len(files)} files, {sum(files.values()):,} bytes (nothing was uploaded)")
        lines += [f"  {size:>14,}  {path}" for path, size in files.items()]
    access = [*(["private"] if terms.private else []), *([f"gated ({terms.gated})"] if terms.gated else [])]
    return [
        *lines,
        f"tag: {terms.tag or 'the next patch version, where it changes'}",
        f"access: {', '.join(access) or 'as the repositories are; new ones are public'}",
        *([f"collection: {terms.collection}"] if terms.collection else []),
    ]


def public_model(name: str, revision: str) -> tuple[str, str]:
    """A model as it is named in public: a folder of the Hub's cache by its id and commit, another by its name.

    The revision of any other folder is the hash of its weights, by which its readers know the right ones.
    """
    cached = _CACHED_MODEL.search(PurePath(name).as_posix())
    return (f"{cached[1]}/{cached[2]}", cached[3]) if cached else (public_name(name), revision)


def published_backbone(info: BackboneInfo) -> BackboneInfo:
    """The backbone as it is named in public."""
    backbone, revision = public_model(info.backbone, info.revision)
    return replace(info, backbone=backbone, revision=revision)


def warnings_of(collection: Collection, backbone: BackboneInfo, *, embeds_images: bool) -> list[str]:
    """What a publisher should know of the backbone, and of the rights and addresses of the images."""
    warnings = []
    public = published_backbone(backbone)
    if public != backbone and "/" not in public.backbone:
        warnings.append(
            f"the backbone {backbone.backbone} is a folder of this machine, published as {public.backbone!r}: readers "
            f"need a copy of it, with the weights {public.revision}, for predict --backbone FOLDER and "
            "load_extractor(sae, backbone=FOLDER)"
        )
    n = len(collection.images)
    n_unlicensed = sum(record.license is None for record in collection.images)
    n_without_address = sum(record.source_url is None for record in collection.images)
    if n_unlicensed and embeds_images:
        warnings.append(
            f"{n_unlicensed} of {n} images have no licence in the table; publish them only if you may redistribute them"
        )
    if n_without_address and not embeds_images:
        warnings.append(
            f"{n_without_address} of {n} images have no source_url in the table; "
            "readers cannot fetch them, and need the files (sae-traits rehydrate --photographs)"
        )
    return warnings


def stage_saes(source: Path, target: Path) -> None:
    """Copy RUN/sae into a new folder for publishing, without naming the backbone's place on this machine.

    Raises:
        ReleaseError: the source is missing, or holds what should not leave this machine.
        CheckpointError: it is not an SAE, or its sweep.json is damaged.
    """
    plan_folder(source)
    copy_folder_to_write(source, target)
    sweep = read_sweep(target)
    folders = [target, *(target / sae.folder for sae in sweep.saes)] if sweep else [target]
    settings = [read_settings(folder / CONFIG_FILE) for folder in folders]
    info = SAEConfig.from_dict(settings[0].values).backbone
    if info is None or (public := published_backbone(info)) == info:
        return
    # Replaced wherever they stand, because the measures name the backbone as well.
    for file in [setting.file for setting in settings] + ([target / SWEEP_FILE] if sweep else []):
        text = file.read_text(encoding="utf-8")
        for names in ((info.backbone, public.backbone), (info.revision, public.revision)):
            private, shown = (json.dumps(name, ensure_ascii=False)[1:-1] for name in names)
            text = text.replace(private, shown)
        file.write_text(text, encoding="utf-8")
