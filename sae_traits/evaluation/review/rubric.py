"""What raters are asked, in the words that they read."""

QUESTION = "Is the sentence true of the outlined place?"
VERDICTS = {
    "accepted": "Accept: I would keep it in a dataset that others rely on.",
    "rejected": "Reject: I would not.",
}
RUBRIC = {
    5: "All of it is true of the outlined place, and it says what is to be seen there.",
    4: "True, but for a detail that is missing or not quite right.",
    3: "Partly true: as much is right as is wrong, or it holds for the place only in part.",
    2: "Mostly wrong: one thing in it is true of the outlined place.",
    1: "Wrong: nothing in it is true of the outlined place, or the place is not on the organism.",
}
"""Score -> when it is given; the best first."""
