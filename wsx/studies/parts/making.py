"""Parts made one after another, with a word to whoever waits."""

from collections.abc import Callable, Mapping

from wsx.report.findings import Part

OnPart = Callable[[int, int, str], None]
"""Told of parts done, parts in all, and the part that comes next."""


def make_parts(
    makers: Mapping[str, Callable[[], Part]], on_part: OnPart | None = None
) -> list[Part]:
    """Return the parts that functions make, in their order.

    Args:
        makers: What makes each part, by its name.
        on_part: Called before each part and after the last one.
    """
    made: list[Part] = []
    for name, make in makers.items():
        if on_part is not None:
            on_part(len(made), len(makers), name)
        made.append(make())
    if on_part is not None:
        on_part(len(made), len(makers), "")
    return made
