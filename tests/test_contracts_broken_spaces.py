import numpy as np
import pytest
from own_spaces import DECISIONS, breaks, isolated_registries, subject

from wsx.contracts import (
    check_contract,
    subject_of,
)
from wsx.spaces import ProductSpace


@pytest.fixture(autouse=True)
def _isolated():
    with isolated_registries():
        yield


# Broken descriptions ---------------------------------------------------------------------------------------


class DropsADecision(ProductSpace):
    def format(self, arch):
        return super().format(arch).rpartition(",")[0]

    def parse(self, text):
        return super().parse(f"{text},{self.decisions[-1].name}={self.decisions[-1].options[0]}")


class AcceptsAnything(ProductSpace):
    def parse(self, text):
        try:
            return super().parse(text)
        except Exception:
            return (0,) * len(self.decisions)


class FailsOtherwise(ProductSpace):
    def parse(self, text):
        chosen = dict(part.split("=") for part in text.split(","))
        return super().parse(",".join(f"{name}={value}" for name, value in chosen.items()))


class Comments(ProductSpace):
    """Texts that a file of archs takes for remarks."""

    def format(self, arch):
        return f"#{super().format(arch)}"

    def parse(self, text):
        return super().parse(text.removeprefix("#"))


class SomeComments(Comments):
    def format(self, arch):
        return super().format(arch).removeprefix("#" if arch[0] else "")


class Blanks(ProductSpace):
    """Texts that end in blanks, which a file of archs does not keep."""

    def format(self, arch):
        return super().format((*arch[:-1], 0)) + " " * arch[-1]

    def parse(self, text):
        return (*super().parse(text.strip())[:-1], int(text.endswith(" ")))


class TwoLines(ProductSpace):
    def format(self, arch):
        return super().format(arch).replace(",", ",\n", 1)


class CountsTooFew(ProductSpace):
    n_archs = 7


class ForgetsAnArch(ProductSpace):
    def arch_at(self, index):
        return super().arch_at(max(index, 1))


class WrongIndex(ProductSpace):
    def index(self, arch):
        return super().index(arch) ^ 1


class RefusesNothing(ProductSpace):
    def check(self, arch):
        return tuple(int(option) for option in arch)


class OwnDice(ProductSpace):
    dice = np.random.default_rng(0)

    def draw(self, *, rng, measure):
        return super().draw(rng=self.dice, measure=measure)


class DrawsOutside(ProductSpace):
    @property
    def measures(self):
        return {"encodings": lambda: None, "first": lambda: [(0, 0, 0), (0, 0, 1)]}

    def draw(self, *, rng, measure):
        return super().draw(rng=rng, measure="encodings")


class ListsTwice(ProductSpace):
    @property
    def measures(self):
        return {"encodings": lambda: None, "twice": lambda: [(0, 0, 0), (0, 0, 0)]}


class Repeats(ProductSpace):
    def sample(self, n, *, rng, measure, has_repeats=False):
        return super().sample(n, rng=rng, measure=measure, has_repeats=True)


class OneWay(ProductSpace):
    def neighbours(self, arch):
        return [other for other in super().neighbours(arch) if other > arch]


class OwnNeighbour(ProductSpace):
    def neighbours(self, arch):
        return [*super().neighbours(arch), arch]


class MutatesTwice(ProductSpace):
    def mutate(self, arch, *, rng):
        return super().mutate(super().mutate(arch, rng=rng), rng=rng)


@pytest.mark.parametrize(
    ("space", "contract", "message"),
    [
        (DropsADecision, "text", "is read as"),
        (AcceptsAnything, "text", "the text '' is read as an arch"),
        (FailsOtherwise, "text", "fails with ValueError instead of ArchError"),
        (Comments, "text", "a file of archs with their texts is refused"),
        (SomeComments, "text", "a file of 8 archs is read as 4"),
        (Blanks, "text", "from a file of archs it comes back as"),
        (TwoLines, "text", "is not one plain line"),
        (CountsTooFew, "order", "n_archs is 7, and 8 combinations are valid"),
        (ForgetsAnArch, "order", "7 different archs are listed, and n_archs is 8"),
        (WrongIndex, "order", "index 0 gives it, its own index is 1"),
        (RefusesNothing, "order", "instead of ArchError|is accepted"),
        (OwnDice, "sampling", "gives other archs from the same seed"),
        (DrawsOutside, "sampling", "draws it and does not list it"),
        (ListsTwice, "sampling", "lists an arch twice"),
        (Repeats, "sampling", "different archs of 8 asked for"),
        (OneWay, "neighbours", "does not have it as a neighbour"),
        (OwnNeighbour, "neighbours", "twice, or itself"),
        (MutatesTwice, "neighbours", "which is no neighbour"),
    ],
)
def test_broken_descriptions_are_seen(space, contract, message):
    broken = subject(space("toy", DECISIONS))
    found = breaks(contract, broken)
    assert any(part in found for part in message.split("|")), found


def test_a_large_space_is_not_listed_and_its_wrong_index_is_seen():
    options = {f"d{i}": tuple(range(9)) for i in range(20)}
    assert check_contract("order", subject_of(ProductSpace("large", options)))["is listed"] is False
    assert "its own index" in breaks("order", subject_of(WrongIndex("large", options)))
