"""A small dump of a MediaWiki, with everything that makes names hard to find."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

PAGES = {
    "Vanessa atalanta": "#REDIRECT [[Red admiral#Description]]",
    "Red admiral": """{{Short description|Species of butterfly}}
{{Taxobox | name = Red admiral | regnum = [[Animal]]ia | binomial = ''Vanessa atalanta'' }}
[[File:Admiral.jpg|thumb|A [[butterfly]] at rest]]
'''''Vanessa atalanta''''', the '''red admiral''', is a [[butterfly]].<ref name="a">Somebody (1758).</ref>
== Range ==
Europe.
== Description ==
=== Adult ===
The wingspan is {{convert|45|-|50|mm|in|abbr=on}}.<ref>Another.</ref>
The [[forewing|fore wings]] are ''black'' &amp; white&nbsp;tipped{{citation needed|date={{CURRENTMONTHNAME}}}}.
=== Larva ===
* Spiny and grey.
== Ecology ==
It eats nettles.
""",
    "Asterina gibbosa": """'''Asterina gibbosa''' may refer to:
* [[Asterina gibbosa (starfish)]], a starfish
* [[Asterina gibbosa (fungus)]], a fungus
* [[Asterina]]
{{Species Latin name disambiguation}}
""",
    "Asterina gibbosa (starfish)": """{{Speciesbox | genus = Asterina | species = gibbosa }}
A starfish with five short arms.
== Morphology ==
It is {{cvt|5|cm}} across<!-- at most -->.
""",
    "Asterina gibbosa (fungus)": """{{Taxobox
| regnum = [[Fungus|Fungi]]
| binomial = ''Asterina gibbosa''
}}
'''''Asterina gibbosa''''' is a fungus.
== Appearance and taxonomy ==
{| class="wikitable"
| a || b
|}
Black colonies on leaves.
""",
    "Asterina": "{{Taxobox | regnum = Animalia }}\nA genus of starfish.",
    "Inachis io": "#REDIRECT [[Aglais]]",
    "Aglais": "'''Aglais''' is a genus.\n== Species ==\n* Inachis io",
    "Quercus robur": """{{Speciesbox | taxon = Quercus robur }}
'''''Quercus robur''''' is a tree.
== Description ==
{{main|Oak}}
== Uses ==
Timber.
""",
    "Prunella modularis": "{{Taxobox | regnum = [[Animal]]ia }} "
    "'''''Prunella modularis''''' is a bird.\n== Description ==\nBrown.",
}
"""Title -> wikitext."""


def dump_of(pages: dict[str, str], *, prolog: str = "") -> bytes:
    """An XML dump of pages, with a talk page of each."""
    parts = [prolog, '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11">', "<siteinfo/>"]
    for title, text in pages.items():
        redirect = f"<redirect title={quoteattr(text[12:].split(']]')[0])} />" if text.startswith("#REDIRECT") else ""
        for ns, name in ((0, title), (1, f"Talk:{title}")):
            parts.append(
                f"<page><title>{escape(name)}</title><ns>{ns}</ns><id>1</id>{redirect}<revision><id>2</id>"
                f'<contributor><username>x</username></contributor><text bytes="9" xml:space="preserve">{escape(text)}'
                "</text></revision></page>"
            )
    return "\n".join([*parts, "</mediawiki>"]).encode()
