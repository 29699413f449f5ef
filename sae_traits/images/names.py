"""Species labels as people write them, read as binomials; what names no single species is refused, not guessed."""

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from sae_traits.errors import CollectionError

HYBRID_SIGN = "×"
MAX_LENGTH = 200
"""Characters; a longer label is no name. The longest published ones, with authors, have some 120."""

_LOWER = "a-zà-öø-þœ"
_UPPER = "A-ZÀ-ÖØ-ÞŒ"
_GENUS = re.compile(rf"[{_UPPER}{_LOWER}][{_LOWER}]+(-[{_LOWER}]+)?|[{_UPPER}]{{2,}}(-[{_UPPER}]+)?")
_EPITHET = re.compile(rf"(?=.{{2}})[{_LOWER}]+(-[{_LOWER}]+)*")
_SHOUTED_EPITHET = re.compile(rf"(?=.{{2}})[{_UPPER}]+(-[{_UPPER}]+)*")
_SUBGENUS = re.compile(rf"\([{_UPPER}{_LOWER}]+\)")
_ABBREVIATION = re.compile(rf"[{_UPPER}{_LOWER}]{{1,3}}\.")
_CODE = re.compile(r"[\w.:#()-]+")
_YEAR = re.compile(r"[(\[]*(1[6-9]|20)\d\d[a-z]?([-–/](\d\d){1,2})?[)\],;.]*")
"""1758, (1758), 1842a or [1808-1813]."""

_OPEN = frozenset(
    {"sp", "spp", "spec", "species", "cf", "aff", "nr", "near", "prope", "gen", "n", "nov", "novum", "new", "indet"}
    | {"conf", "confer", "affin", "prox"}
    | {"unknown", "unidentified", "undetermined", "unclassified", "none", "nan", "null", "na", "n/a", "other", "others"}
    | {"unsorted", "unassigned", "unlabelled", "unlabeled", "unnamed", "undefined", "indeterminate", "incertae"}
    | {"not", "no", "blank", "empty", "missing", "mixed", "various", "misc", "miscellaneous", "todo", "tbd"}
    | {"nicht", "kein", "keine", "unbekannt", "unbestimmt", "unsortiert", "sonstige", "verschiedene", "onbekend"}
    | {"non", "inconnu", "inconnue", "autre", "autres", "desconocido", "desconocida", "desconhecido", "sconosciuto"}
    | {"sans", "sin", "sem", "não", "nao", "ej", "inte", "ikke", "okänd", "ukendt", "ukjent", "tuntematon", "nieznany"}
    | {"male", "males", "female", "females", "larva", "larvae", "adult", "adults", "juvenile", "juveniles"}
    | {"background", "undescribed", "morphospecies", "morphosp", "uncultured", "environmental"}
)
"""Words in the place of a genus or an epithet that leave the species open."""
_REMARKS = frozenset(
    {"to", "cannot", "unable", "tbc", "false", "true", "error", "blurry", "damaged", "trash", "human", "person"}
)
"""Words that begin a remark in the place of a name."""
_PLAIN = frozenset(
    {"moth", "butterfly", "beetle", "insect", "bug", "bird", "plant", "specimen", "image", "photo", "picture"}
    | {"moths", "butterflies", "beetles", "insects", "bugs", "birds", "plants", "specimens", "fly", "flies"}
    | {"bee", "bees", "wasp", "wasps", "ant", "ants", "spider", "spiders", "grasshopper", "cricket", "dragonfly"}
    | {"fish", "frog", "snake", "flower", "tree", "mushroom", "animal", "caterpillar", "caterpillars", "nymph"}
    | {"nymphs", "egg", "eggs", "worker", "workers", "queen", "queens", "nest", "feather", "feathers", "trap"}
    | {"track", "tracks", "gall", "galls", "cocoon", "black", "white", "red", "brown", "yellow", "green", "blue"}
    | {"grey", "gray", "small", "large", "little", "tiny", "sample", "samples"}
)
"""Words of plain language, which name no genus and are no epithets."""
_STAGES = frozenset(
    {"pupa", "pupae", "prepupa", "puparium", "puparia", "chrysalis", "chrysalides", "imago", "imagos", "imagines"}
    | {"subimago", "subimagos", "instar", "instars", "exuvia", "exuviae", "exuvium", "ootheca", "oothecae", "teneral"}
    | {"immature", "immatures", "subadult", "subadults", "hatchling", "hatchlings", "nestling", "nestlings"}
    | {"fledgling", "fledglings", "chick", "chicks", "tadpole", "tadpoles", "seedling", "seedlings"}
    | {"maggot", "maggots", "grub", "grubs"}
)
"""Stages of a life, which are no epithets; that a few snails are called `pupa` or `chrysalis`, too, is passed over."""
_GROUPS = frozenset(
    {"animalia", "plantae", "fungi", "algae", "bacteria", "lichenes", "protozoa", "chromista"}
    | {"arthropoda", "mollusca", "annelida", "nematoda", "chordata", "crustacea", "myriapoda", "hexapoda"}
    | {"insecta", "arachnida", "araneae", "acari", "acarina", "opiliones", "scorpiones", "pseudoscorpiones"}
    | {"isopoda", "amphipoda", "decapoda", "copepoda", "ostracoda", "diplopoda", "chilopoda", "collembola"}
    | {"gastropoda", "bivalvia", "cephalopoda", "oligochaeta", "polychaeta", "hirudinea"}
    | {"aves", "mammalia", "reptilia", "amphibia", "pisces", "anura", "squamata", "chiroptera", "rodentia"}
    | {"diptera", "coleoptera", "lepidoptera", "hymenoptera", "hemiptera", "heteroptera", "auchenorrhyncha"}
    | {"sternorrhyncha", "orthoptera", "odonata", "anisoptera", "zygoptera", "ephemeroptera", "trichoptera"}
    | {"neuroptera", "thysanoptera", "mecoptera", "blattodea", "mantodea", "phasmatodea", "phasmida", "dermaptera"}
    | {"psocoptera", "psocodea", "siphonaptera", "megaloptera", "raphidioptera", "strepsiptera", "embioptera"}
    | {"thysanura", "zygentoma", "archaeognatha", "rhopalocera", "heterocera", "nematocera", "brachycera"}
)
"""Groups of many genera that labels name; of those that are the name of a genus, too, such as Plecoptera, none."""
_NO_GENUS = re.compile(r"\w+(idae|aceae)")
"""A family."""
_SEVERAL = frozenset(
    {"agg", "aggr", "aggregate", "complex", "group", "gr", "or", "vs", "vel", "s.l", "sl", "lato", "+"}
    | {"gp", "grp", "gruppe", "groupe", "grupo", "gruppo", "grupp", "cplx", "komplex", "complexe", "complejo"}
    | {"oder", "ou", "eller"}
)
"""Words after a binomial that make it more than one species; without brackets and full stops around them."""
_DOUBT = frozenset(
    {"uncertain", "probably", "possibly", "perhaps", "maybe", "doubtful", "unsure", "tentative", "unconfirmed"}
    | {"likely", "presumably", "prob", "poss", "indet", "undet", "ind", "like"}
)
_HYBRID = frozenset({"hybrid", "hybrids", "hybride", "hybr", "hyb", "intergrade", "crossbreed", HYBRID_SIGN})
_COMPARED = frozenset({"cf", "c.f", "conf", "confer", "aff", "affin", "nr", "near", "prox"})
"""Words that leave open what follows them, or what stands before them if nothing does."""
_UNSURE = _DOUBT | _COMPARED | _HYBRID | _SEVERAL
_AND = frozenset({"&", "et", "and", "und", "och", "og", "y", "e", "o"})
"""Words between two species, or two authors. `o` is Italian and Spanish for "or", and `O.` an initial."""
_ALSO_AUTHORS = frozenset(
    {"black", "white", "brown", "green", "grey", "gray", "blue", "small", "large", "little", "bird", "fish", "fly"}
    | {"trap", "queen", "near", "poss", "ou"}
)
"""Words of doubt and of plain language that authors are called, too."""
_AROUND_NEW = frozenset({"n", "nov", "nova", "novum", "new", "inq"})
"""Words beside `sp.` that are said of a species of that name: Papilio novus sp. nov."""
_RANKS = frozenset({"ssp", "subsp", "subspecies", "var", "f", "fo", "forma", "form", "ab", "morph", "race", "cv"})
"""Words before a name below the species."""
_APOSTROPHE = re.compile(rf"(?<=[{_UPPER}{_LOWER}])['\u2019\u02bc`´](?=[{_UPPER}{_LOWER}])")
_AMONG_AUTHORS = frozenset(
    {"al", "de", "da", "di", "du", "del", "der", "den", "la", "le", "van", "von", "zu", "ter"}
    | {"in", "ex", "nec", "non", "auct", "auctt", "litt", "emend", "apud", "sensu"}
)


@dataclass(frozen=True, slots=True)
class ParsedName:
    """A label placed at a species."""

    genus: str | None
    """None for the code of a species whose genus is not known."""
    species: str
    """The binomial, or the code."""
    note: str | None = None
    """What the label said beyond the binomial: author, year, subgenus, subspecies, variety, form."""


def parse_name(label: str | None, *, codes: bool = False, genus: str | None = None) -> ParsedName:
    """Read the binomial in a label such as "Papilio machaon Linnaeus, 1758" or "Magnolia_x_soulangeana".

    Author, year, subgenus and ranks below the species are left out, and the note says so. The names of hybrids are
    written "Magnolia × soulangeana", those of hybrid genera "×Mahoberberis neubertii". An epithet loses its apostrophe,
    as the codes of nomenclature ask: "Copris o'connelli" becomes Copris oconnelli.

    Args:
        label: as the source has it; an epithet alone stands behind `genus`.
        codes: whether labels with a number that are no binomials, such as "Viola v01", "Megaselia sp. 3YDA" or
            BOLD:AAB1234, name a species of their own, as they are written.
        genus: of a column of its own.

    Raises:
        CollectionError: the label names no single species; the message is the reason, with the label.
    """
    if label and genus and _EPITHET.fullmatch(_APOSTROPHE.sub("", label.strip())):
        label = f"{genus} {label.strip()}"
    words = _words(label or "")
    if not words:
        raise CollectionError("it has no species name")
    line = " ".join((label or "").split())
    quoted = repr(line if len(line) <= 80 else line[:79] + "…")
    if sum(map(len, words)) + len(words) > MAX_LENGTH:
        raise CollectionError(f"{quoted} is too long for a species name (more than {MAX_LENGTH} characters)")
    try:
        return _parse(words)
    except CollectionError as error:
        is_code = _is_code(words)
        if is_code and codes:
            named = words[0].capitalize() if len(words) > 1 and _GENUS.fullmatch(words[0]) else None
            return ParsedName(genus or named, " ".join(words))
        advice = "; if it is the code of a morphospecies or a BIN, add --species-codes" if is_code else ""
        raise CollectionError(f"{quoted} cannot be placed at a species: {error}{advice}") from error


def with_qualifier(label: str | None, qualifier: str) -> str | None:
    """The label with what leaves it open in Darwin Core's `identificationQualifier`, such as `cf. machaon` or `?`.

    Doubt about a rank below the species (`cf. var. alba`) leaves the species as it is.
    """
    first, following, *_ = [*qualifier.split(), "", ""]
    is_open = first.lower().strip("().,") in _UNSURE or "?" in first
    return f"{label} {first}" if label and is_open and following.strip(".") not in _RANKS else label


def rank_name(written: str) -> str:
    """Write a rank above the genus as usual: `NYMPHALIDAE Rafinesque` is Nymphalidae, `incertae sedis` is none."""
    name = " ".join(written.strip("\"' ").split())
    if name.lower().split(" ")[0].strip(".") in _OPEN:
        return ""
    if family := re.match(rf"{_NO_GENUS.pattern}\b", name, re.IGNORECASE):
        name = family[0]
    return name.capitalize() if name.isupper() or name.islower() else name


@cache
def species_of(label: str | None, *, codes: bool = False, genus: str | None = None) -> str | None:
    """The species that a label names; None where it names no single one. Arguments as of `parse_name`."""
    try:
        return parse_name(label, codes=codes, genus=genus).species
    except CollectionError:
        return None


def binomial(label: str) -> str:
    """The binomial in a label; a label without one as it is, but for blanks and underscores."""
    return species_of(label) or " ".join(label.replace("_", " ").split())


def _is_code(words: list[str]) -> bool:
    """Whether words are a code: one has a number that is no year, and none says that the species is in doubt."""
    numbered = any(any(map(str.isdigit, word)) and not _YEAR.fullmatch(word) for word in words)
    return numbered and all(_CODE.fullmatch(word) and word.lower().strip(".") not in _UNSURE for word in words)


def _words(label: str) -> list[str]:
    visible = "".join(letter for letter in label if unicodedata.category(letter) != "Cf")
    spaced = unicodedata.normalize("NFC", visible).replace("_", " ").replace(",", ", ")
    spaced = spaced.replace(HYBRID_SIGN, f" {HYBRID_SIGN} ")
    return [HYBRID_SIGN if word in {"x", "X"} else word for word in spaced.split()]


def _parse(words: list[str]) -> ParsedName:
    """Read the name in a label's words; the parts of it are read from left to right."""
    hybrid_genus = words[0] == HYBRID_SIGN
    words = words[1:] if hybrid_genus else words
    genus = _genus(words)
    shouted = words[0].isupper()
    rest = words[1:]
    # Bombus (Pyrobombus) impatiens; but in Papilio (Linnaeus) the brackets hold an author.
    epithet_form = _SHOUTED_EPITHET if shouted else _EPITHET
    n_subgenus = 1 if len(rest) > 1 and _SUBGENUS.fullmatch(rest[0]) and epithet_form.fullmatch(rest[1]) else 0
    subgenus, rest = rest[:n_subgenus], rest[n_subgenus:]
    hybrid_species = rest[:1] == [HYBRID_SIGN]
    rest = rest[1:] if hybrid_species else rest
    epithet = _epithet(rest, shouted)
    line = "".join(words)
    _check_rest(rest[1:], in_one_case=line.isupper() or line.islower())
    left_out = " ".join([*subgenus, *rest[1:]])
    genus = HYBRID_SIGN + genus if hybrid_genus else genus
    species = f"{genus} {HYBRID_SIGN} {epithet}" if hybrid_species else f"{genus} {epithet}"
    return ParsedName(genus, species, f"left out: {left_out}" if left_out else None)


def _genus(words: list[str]) -> str:
    """Read the genus that begins the words, with a capital letter."""
    if not words:
        raise CollectionError("it has no genus")
    first = words[0]
    if first.lower().rstrip(".") in _OPEN | _PLAIN | _REMARKS:
        raise CollectionError(f"it begins with {first!r}, so that the genus is not known")
    if first.lower() in _GROUPS:
        raise CollectionError(f"{first!r} is a group of many genera, so that the species is not known")
    if _NO_GENUS.fullmatch(first.lower()):
        raise CollectionError(f"{first!r} is a family, so that the species is not known")
    if _ABBREVIATION.fullmatch(first):
        raise CollectionError(f"the genus is abbreviated as {first!r}")
    if not _GENUS.fullmatch(first):
        raise CollectionError(f"{first!r} is no genus")
    return first.capitalize()


def _epithet(words: list[str], shouted: bool) -> str:
    """Read the species epithet that begins the words; one in capitals is an author, unless the genus is, too."""
    if not words:
        raise CollectionError("it has no species epithet; expected Genus species")
    first = _APOSTROPHE.sub("", words[0])
    if first.lower().strip("().0123456789") in _OPEN | _DOUBT | _HYBRID | _PLAIN | _STAGES:
        raise CollectionError(f"{first!r} says that the species is not known")
    if "-" in first and first.lower().rpartition("-")[2].rstrip(".") in _SEVERAL | _DOUBT | {"type"}:
        raise CollectionError(f"{first!r} says that it may be several species")
    if HYBRID_SIGN in words:
        raise CollectionError("it is a hybrid formula, of two species")
    if not (_EPITHET.fullmatch(first) or (shouted and _SHOUTED_EPITHET.fullmatch(first))):
        raise CollectionError(f"{first!r} is no species epithet (a word in lower-case letters)")
    if first.lower() == "affinis" and (other := _near_or_subspecies(words[1:], shouted)):
        raise CollectionError(
            f"{first!r} before an epithet says that it is near that species; if {other!r} is a subspecies, write "
            f"'ssp. {other}'"
        )
    return first.lower()


def _near_or_subspecies(words: list[str], shouted: bool) -> str | None:
    """The epithet after "affinis": of a species that this one is near, or of a subspecies; None where there is none."""
    is_author = shouted and any(map(_YEAR.fullmatch, words))
    plain = "".join(words[:1]).strip("()[].,;:")
    plain = plain.lower() if shouted and not is_author else plain
    says_more = plain in _RANKS | _OPEN | _STAGES | _UNSURE | _AND | _PLAIN
    is_repeated = plain == "affinis"  # as in the typical subspecies
    return plain if _is_epithet_of_another([plain]) and not says_more and not is_repeated else None


def _check_rest(words: list[str], *, in_one_case: bool) -> None:
    """Refuse what changes the meaning of the binomial before it."""
    for place, word in enumerate(words):
        plain = word.lower().strip("()[].,;:")
        following = words[place + 1 :]
        # Where capital letters say nothing, a year does.
        is_name = any(map(_YEAR.fullmatch, following)) if in_one_case else word.strip("([")[:1].isupper()
        so_far = " ".join(words[: place + 1])
        in_brackets = "(" in so_far[so_far.rfind(")", 0, -1) + 1 :]  # where a name in a living language may stand
        if (is_name and plain in _ALSO_AUTHORS) or (in_brackets and plain in _PLAIN):
            plain = ""
        names_another = _is_epithet_of_another(following[:1])
        in_full = bool(following) and bool(_GENUS.fullmatch(following[0]) or _ABBREVIATION.fullmatch(following[0]))
        names_another_in_full = in_full and _is_epithet_of_another(following[1:2])
        is_wide = plain == "lat" and words[place - 1].lower() in {"s.", "sens.", "sensu"}
        joins = word.lower() in _AND and (names_another or names_another_in_full)
        parts = {"/", "|"} & set(word) and not _YEAR.fullmatch(word)
        if plain.rpartition("-")[2] in _SEVERAL or parts or is_wide or joins:
            raise CollectionError(f"{word!r} says that it may be several species")
        beside = {other.lower().strip("().,") for other in (*words[max(place - 1, 0) : place], *following[:1])}
        if plain in {"sp", "spp"} and not beside & _AROUND_NEW:
            raise CollectionError(f"{word!r} says that the species is not known")
        if plain in _PLAIN:
            raise CollectionError(f"{word!r} is plain language, so that this is no name of a species")
        if plain in _HYBRID:
            raise CollectionError(f"{word!r} says that it is one of two species")
        if "?" in word or plain in _DOUBT or (plain in _COMPARED and not names_another):
            raise CollectionError("it is marked as doubtful")
        if any(letter.isdigit() for letter in word) and not _YEAR.fullmatch(word):
            raise CollectionError(f"{word!r} is a number of a provisional name")


def _is_epithet_of_another(words: list[str]) -> bool:
    """Whether the next word is an epithet, and not one that stands among the names of authors."""
    plain = "".join(words).strip("()[].,;:")
    return bool(_EPITHET.fullmatch(plain)) and plain not in _AMONG_AUTHORS
