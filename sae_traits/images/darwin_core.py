"""Darwin Core archives as GBIF hands them out: occurrences, and the addresses of their photographs.

The species is that of GBIF's column `species`, or else what of the accepted or the given scientific name is a binomial.
Photographs are fetched into the cache; each keeps the licence and the rights holder that its publisher stated.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import sha256
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from sae_traits.config.collection import CollectionConfig
from sae_traits.errors import CollectionError
from sae_traits.images.archive import Archive, ArchiveTable, is_archive, open_archive
from sae_traits.images.cache import cache_folder
from sae_traits.images.columns import find_columns, warn_of_unread
from sae_traits.images.decode import IMAGE_SUFFIXES
from sae_traits.images.fetching import fetch_images
from sae_traits.images.listing import Format, Listing, Row, one_row_per_file
from sae_traits.images.names import with_qualifier
from sae_traits.images.selection import reasons_without_species, select
from sae_traits.schema import Problem, Taxon
from sae_traits.vocabulary import RANKS

OCCURRENCE = "occurrence"
MEDIA = ("multimedia", "image")
"""Extensions with addresses of media: GBIF's, Audubon Core's (of the same name), and GBIF's older one for images."""
_ADDRESS = ("accessURI", "identifier")
"""Terms with the address of a file, the first that a row has; `accessURI` is Audubon Core's."""
_LICENSE = ("license", "rights", "UsageTerms", "WebStatement")
_HOLDER = ("rightsHolder", "owner", "Owner", "creator")
"""Terms of a photograph, with Audubon Core's in capital letters; the first that a row has."""
_KEPT = (*_LICENSE, *_HOLDER)
"""Terms of a photograph that are remembered besides its address."""
_BETWEEN_ADDRESSES = re.compile(r"[\s|;,]+(?=https?://)")
_PHOTOGRAPHS = frozenset(
    {"stillimage", "image", "photo", "photograph", "jpeg", "jpg", "pjpeg", "png", "tiff", "tif", "webp"}
)
_OTHER_MEDIA = frozenset(
    {"sound", "movingimage", "video", "audio", "text", "html", "pdf", "dataset", "interactiveresource"}
)
"""Last words of a kind of media, in small letters."""
_NAMES = ("species", "acceptedScientificName", "scientificName")
_KEPT_OF_OCCURRENCES = (
    *(*_NAMES, *RANKS, "specificEpithet", "identificationQualifier", "organismID", "catalogNumber"),
    *("license", "rights", "rightsHolder"),
)
_OF_OCCURRENCES = {
    **{rank: (rank,) for rank in RANKS[:-1]},
    "species": (*_NAMES, "specificEpithet"),
    "individual": ("organismID", "catalogNumber"),
    "license": ("license", "rights"),
    "rights_holder": ("rightsHolder",),
}
_OF_MEDIA = {
    "address": _ADDRESS,
    "kind": ("type", "format"),
    "license": _LICENSE,
    "rights_holder": _HOLDER,
}
"""What is read of a table -> terms that say it: by these it is told which others may be misspelt."""

Cells = Mapping[str, str]


def list_darwin_core(config: CollectionConfig) -> Listing:
    """List the photographs of an archive's occurrences that are wanted and could be fetched.

    Occurrences without a photograph are counted. Photographs without a species, and those that cannot be fetched, are
    reported by themselves, with their address; what failed for the moment is fetched by the next command.

    All photographs of an organism (organismID), or else of an occurrence, are of one individual. The draw within a
    species is made before anything is fetched.

    Raises:
        CollectionError: it is no archive of occurrences with media, or nothing in it is wanted.
    """
    archive = open_archive(config.path)
    rows, problems, urls = _rows(archive)
    if not rows and not problems:
        raise CollectionError(f"{config.path} has no occurrences")
    chosen = select(one_row_per_file(rows, problems, codes=config.species_codes), config)
    nameless = reasons_without_species(chosen, config)
    wanted = [row for row in chosen if row.file not in nameless]
    problems += [Problem(urls[file], reason) for file, reason in nameless.items()]
    folder = cache_folder(config.image_cache, "addresses")
    answers = fetch_images(
        {row.file: urls[row.file] for row in wanted},
        folder,
        connections=config.connections,
        allow_private_addresses=config.allow_private_addresses,
    )
    fetched = tuple(row for row in wanted if answers[row.file].reason is None)
    failed = [answer for row in wanted if (answer := answers[row.file]).reason is not None]
    problems += [Problem(answer.url, str(answer.reason)) for answer in failed]
    named = dict.fromkeys((row.label, row.ranks.genus) for row in chosen)
    return Listing(root=folder, rows=fetched, problems=tuple(problems), named=tuple(named))


FORMAT = Format(
    name="a Darwin Core archive",
    recognise=lambda config: partial(list_darwin_core, config) if is_archive(config.path) else None,
)


def _rows(archive: Archive) -> tuple[list[Row], list[Problem], dict[str, str]]:
    """Make a row for every photograph; say what is wrong with the archive, and the address of each file."""
    if archive.core.row_type.lower() != OCCURRENCE:
        raise CollectionError(
            f"the core of {archive.path} is {archive.core.row_type}; a core of occurrences is read, as in the "
            "download `Darwin Core Archive` of the dataset's occurrences on gbif.org"
        )
    media, problems = _photographs(archive)
    _warn_of_misspelt(archive.core, _OF_OCCURRENCES)
    rows: list[Row] = []
    urls: dict[str, str] = {}
    n_without = n_again = 0
    occurrences: dict[str, Cells] = {}
    for occurrence_id, cells in archive.rows(archive.core, problems):
        in_core = [one for one in _each(cells.get("associatedMedia", "")) if one.startswith("http")]
        if in_core and occurrence_id not in media:
            media[occurrence_id] = [{"address": address} for address in in_core]
        if occurrence_id in occurrences:
            n_again += 1
        elif occurrence_id in media:
            occurrences[occurrence_id] = {term: cells[term] for term in _KEPT_OF_OCCURRENCES if term in cells}
        else:
            n_without += 1
    catalogued = Counter(occurrence.get("catalogNumber") for occurrence in occurrences.values())
    for occurrence_id, occurrence in occurrences.items():
        number = occurrence.get("catalogNumber")
        # Collections number their own objects, so a number may be that of several occurrences.
        fallback = number if number and catalogued[number] == 1 else occurrence_id
        for photograph in media.pop(occurrence_id):
            row = _row(occurrence, photograph, occurrence.get("organismID") or fallback)
            urls[row.file] = photograph["address"]
            rows.append(row)
    file = archive.core.locations[0]
    if n_without:
        problems.append(Problem(file, f"{n_without:,} occurrences have no photograph"))
    if n_again:
        reason = f"{n_again:,} rows have the identifier of an earlier row, which is taken"
        problems.append(Problem(file, reason))
    if media:
        problems.append(Problem(file, f"{len(media):,} occurrences that have photographs are not in it"))
    return rows, problems, urls


def _warn_of_misspelt(table: ArchiveTable, terms: Mapping[str, Sequence[str]]) -> None:
    """Tell of terms that nearly are lacking ones; hundreds of others are usual."""
    warn_of_unread(table.locations[0], table.columns, find_columns(table.columns, terms), terms, near_only=True)


def _photographs(archive: Archive) -> tuple[dict[str, list[Cells]], list[Problem]]:
    """Read the rows about photographs by the id of their occurrence, and count all others."""
    tables = [table for table in archive.extensions if table.row_type.lower() in MEDIA]
    if not tables and "associatedMedia" not in archive.core.columns:
        types = ", ".join(table.row_type for table in archive.extensions) or "none"
        raise CollectionError(
            f"{archive.path} has no table of media (its extensions: {types}); on gbif.org choose the download "
            "`Darwin Core Archive` of occurrences with images"
        )
    media: dict[str, dict[str, Cells]] = defaultdict(dict)
    problems: list[Problem] = []
    for table in tables:
        _warn_of_misspelt(table, _OF_MEDIA)
        left_out: Counter[str] = Counter()
        for occurrence_id, cells in archive.rows(table, problems):
            if not _is_photograph(cells):
                left_out[f"are {cells.get('type') or cells.get('format')}, not photographs"] += 1
            elif not _address(cells):
                left_out["have no address"] += 1
            else:  # the tables of an archive may have the same photographs
                kept = {term: cells[term] for term in _KEPT if term in cells}
                for address in _each(_address(cells)):
                    media[occurrence_id].setdefault(address, {"address": address, **kept})
        problems += [Problem(table.locations[0], f"{n:,} media {reason}") for reason, n in sorted(left_out.items())]
    return {occurrence_id: list(photographs.values()) for occurrence_id, photographs in media.items()}, problems


def _is_photograph(cells: Cells) -> bool:
    """Whether a medium is one, as publishers write its type and format; where both are silent, fetching will tell."""
    kinds = [cells[term] for term in ("type", "format") if term in cells]
    # The last words of …/dcmitype/StillImage, dcmitype:StillImage and Still Image are stillimage.
    words = [kind.replace(":", "/").rsplit("/", 1)[-1].replace(" ", "").lower() for kind in kinds]
    if cells.get("format", "").lower().startswith(("audio", "video")) or not _OTHER_MEDIA.isdisjoint(words):
        return False
    says_so = any(word in _PHOTOGRAPHS or word.startswith(("jpeg", "jpg")) for word in words)
    is_picture = any(kind.lower().startswith("image/") for kind in kinds)
    return not words or says_so or is_picture or _suffix(_address(cells)) != ""


def _address(cells: Cells) -> str:
    return _first(cells, *_ADDRESS) or ""


def _each(addresses: str) -> list[str]:
    """The addresses in a cell, which Darwin Core separates by ` | `, and people by anything."""
    return _BETWEEN_ADDRESSES.split(addresses)


def _row(occurrence: Cells, photograph: Cells, individual: str) -> Row:
    url = photograph["address"]
    label = _first(occurrence, *_NAMES) or occurrence.get("specificEpithet")
    digest = sha256(url.encode("utf-8", "backslashreplace")).hexdigest()[:32]  # no address leads out of the folder
    return Row(
        file=f"{digest[:2]}/{digest}{_suffix(url)}",
        label=with_qualifier(label, occurrence.get("identificationQualifier", "")),
        individual=individual,
        ranks=Taxon.from_dict({rank: occurrence.get(rank) for rank in RANKS}),
        license=_first(photograph, *_LICENSE) or _first(occurrence, "license", "rights"),
        rights_holder=_first(photograph, *_HOLDER) or _first(occurrence, "rightsHolder"),
        source_url=url,
    )


def _first(cells: Cells, *terms: str) -> str | None:
    return next((cells[term] for term in terms if term in cells), None)


def _suffix(url: str) -> str:
    try:
        suffix = PurePosixPath(urlsplit(url).path).suffix.lower()
    except ValueError:  # of an address that cannot be parsed; fetching it says so
        return ""
    return suffix if suffix in IMAGE_SUFFIXES else ""
