"""Which row of a truth table is about which arch."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from wsx.errors import WsxError
from wsx.spaces import SPACES, Space
from wsx.truth import TruthTable


def truth_rows(
    space_name: str, archs: NDArray[np.int16], texts: Iterable[object], truth: TruthTable
) -> NDArray[np.int64]:
    """Return the row of the truth table of each arch, -1 where there is none, (arch,).

    Archs that are the same net when trained alone share a row, however either side spells them.

    Args:
        space_name: The archs' space; where wsx does not know it, text forms are compared as they are.
        archs: Options, shape (arch, decision).
        texts: Text forms, one per arch.
        truth: The truth table.
    """
    space = SPACES.get(space_name)
    if space is None:
        return truth.align([str(text) for text in texts])[0]
    names = [space.truth_text(tuple(int(option) for option in arch)) for arch in archs]
    found, is_known = truth.align(names)
    if is_known.all():
        return found
    row_of = {_respelt(text, space): row for row, text in enumerate(truth.texts)}
    return np.array([row_of.get(name, -1) for name in names], np.int64)


def _respelt(text: str, space: Space) -> str:
    try:
        return space.truth_text(space.parse(text))
    except WsxError:
        # Tables may use names that are no text form, such as a hash.
        return text
