"""Which sound stands where in a near-miss: each sound of the word is a slot, and holds one sound of what was said."""

from collections.abc import Sequence

from edge_node.training.phonemes import LONG, STRESS

NOTHING = ""
"""What a slot holds if the near-miss has no sound there."""

_VOWELS = frozenset("aɐɑʌəɔoiɪeɛæɯɨuʊɜyøœɒ")
_GAP = 1.0
_OTHER, _OTHER_KIND = 1.0, 1.6
"""Cost of another sound: a vowel for a vowel, and a vowel for a consonant."""


def sounds(ipa: str) -> list[str]:
    """The letters of a pronunciation without stress, length and spaces."""
    return [letter for letter in ipa if letter not in STRESS and letter not in {LONG, " ", "ʰ"}]


def slots(word: Sequence[str], said: Sequence[str]) -> list[str]:
    """For each sound of the word the sound that was said in its place; the alignment that costs least."""
    rows, columns = len(word), len(said)
    cost = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    for row in range(rows + 1):
        for column in range(columns + 1):
            if row == 0 or column == 0:
                cost[row][column] = _GAP * (row + column)
                continue
            cost[row][column] = min(
                cost[row - 1][column - 1] + _change(word[row - 1], said[column - 1]),
                cost[row - 1][column] + _GAP,
                cost[row][column - 1] + _GAP,
            )
    found = [NOTHING] * rows
    row, column = rows, columns
    while row and column:
        if cost[row][column] == cost[row - 1][column - 1] + _change(word[row - 1], said[column - 1]):
            row, column = row - 1, column - 1
            found[row] = said[column]
        elif cost[row][column] == cost[row - 1][column] + _GAP:
            row -= 1
        else:
            column -= 1
    return found


def _change(one: str, other: str) -> float:
    if one == other:
        return 0.0
    return _OTHER if (one in _VOWELS) == (other in _VOWELS) else _OTHER_KIND


def classes(word: str, near: Sequence[str]) -> list[list[str]]:
    """For each slot of a word's pronunciation all that may stand there; what the word itself has comes first."""
    own = sounds(word)
    aligned = [slots(own, sounds(ipa)) for ipa in near]
    return [[sound, *sorted({held[at] for held in aligned} - {sound})] for at, sound in enumerate(own)]
