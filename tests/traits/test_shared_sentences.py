"""Sentences that several species share: only to the letter, and of another species than one's own."""

from sae_traits.traits.shared_sentences import SentenceCounter, SharedSentences


def counted(*said):
    """The count of pairs of a sentence and a species."""
    counter = SentenceCounter()
    for sentence, species in said:
        counter.add(sentence, species)
    return counter.count()


def test_a_sentence_is_shared_when_another_species_has_it_to_the_letter():
    found = counted(
        ("A red wing.", "Aus bus"), ("A red wing.", "Aus bus"), ("A red wing.", "Aus cus"), ("A blue é.", "Aus dus"),
        ("A blue é.", "Aus dus"), ("a red wing.", "Aus dus"), ("A leg.", "Aus cus"), ("A leg.", "Aus dus"),
    )  # fmt: skip
    assert found == SharedSentences(n_traits=8, n_shared=5, n_sentences=4, n_shared_sentences=2, n_species=3)


def test_one_species_shares_nothing_and_neither_does_none():
    assert counted(("A leg.", "Aus bus"), ("A leg.", "Aus bus")).n_shared == 0
    assert counted() == SharedSentences(n_traits=0, n_shared=0, n_sentences=0, n_shared_sentences=0, n_species=0)
