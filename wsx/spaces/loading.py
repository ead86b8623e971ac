"""Finding a space: by name, or as somebody's own code; and finding it again for a folder that names it.

**Trust.** Code is imported only where the caller names it (``FILE.py:NAME``, ``MODULE:NAME``) or an installed
package offers it (entry points ``wsx.spaces`` and ``wsx.supernets``). Run and export folders name a space, never
code to import: where its code came from is kept to be shown, not followed.
"""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from wsx.errors import OptionError, UnknownNameError
from wsx.registry import unknown_name
from wsx.spaces._base import SPACES, Space
from wsx.spaces.product import ProductSpace

_ORIGINS: dict[str, str] = {}
"""Where the code of a space was found, by the space's name."""


def load_space(spec: str) -> Space:
    """Return a space by its name, or import one's own and register it under its name.

    Args:
        spec: A name, ``FILE.py:NAME``, or ``MODULE:NAME`` of a module that is installed or lies in the current
            folder. Importing runs that code.

    Raises:
        UnknownNameError: There is no such space, or the module has none under that name.
        OptionError: The file or module is missing, fails, or is another one of the same name.
        DuplicateNameError: The space has the name of another one.
    """
    place, separator, name = spec.rpartition(":")
    if not separator:
        space = SPACES[spec]
        if space.name != spec:
            raise OptionError(
                f"space {spec!r} is installed under a name that is not its own, {space.name!r}"
            )
        return space
    module = _import(place, spec)
    found = getattr(module, name, None)
    if not isinstance(found, Space):
        known = [key for key, value in vars(module).items() if isinstance(value, Space)]
        raise unknown_name(f"space in {place}", name, known)
    _ORIGINS.setdefault(found.name, spec)
    return SPACES.register(found.name)(found)


def _import(place: str, spec: str) -> ModuleType:
    is_file = place.endswith(".py")
    path = Path(place)
    if is_file and not path.is_file():
        raise OptionError(f"space {spec!r}: there is no file {place}")
    name = path.stem if is_file else place
    folder = str(path.resolve().parent if is_file else Path.cwd())
    importlib.invalidate_caches()
    # At the end: a file of the folder must not stand in for an installed module.
    sys.path.append(folder)
    try:
        module = importlib.import_module(name)
    except Exception as error:
        # Somebody else's module may raise anything.
        if isinstance(error, ModuleNotFoundError) and error.name in (name, name.partition(".")[0]):
            raise OptionError(
                f"space {spec!r}: no module {name!r} is installed or in the current folder"
            ) from None
        raise OptionError(
            f"space {spec!r}: {place} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.remove(folder)
    if is_file and Path(module.__file__ or "").resolve() != path.resolve():
        raise OptionError(
            f"space {spec!r}: another module is called {name!r} ({module.__file__}); rename the file"
        )
    return module


def space_facts(space: Space) -> dict[str, Any]:
    """Return what a folder keeps of a product space besides its name, nothing of others; JSON-clean."""
    whole = space.whole
    return {"decisions": whole.options} if type(whole) is ProductSpace else {}


def space_origin(space: Space) -> dict[str, Any]:
    """Return where the code of one's own space was found, nothing for a space of wsx; JSON-clean."""
    return {"space_from": _ORIGINS[space.name]} if space.name in _ORIGINS else {}


def known_space(facts: Mapping[str, Any]) -> Space:
    """Return the space that a folder's facts name, if its code is there.

    Raises:
        UnknownNameError: It is neither registered nor installed; the message says what to pass.
        OptionError: It has other decisions than when the facts were written.
    """
    name = facts["space"]
    try:
        space = SPACES[name]
    except UnknownNameError as error:
        raise UnknownNameError(f"{error} {_remedy(facts)}") from None
    now, then = space_facts(space).get("decisions"), facts.get("decisions")
    if then is not None and now != then:
        raise OptionError(
            f"space {name} has other decisions than then: {now!r:.300} instead of {then!r:.300}"
        )
    return space


def described_space(facts: Mapping[str, Any]) -> Space:
    """Return the space of an export folder: a product space needs no code, its options are all there is to it.

    Raises:
        UnknownNameError: It is no product space, and neither registered nor installed.
        OptionError: The options are malformed.
    """
    if "decisions" in facts:
        return ProductSpace(facts["space"], facts["decisions"])
    return known_space(facts)


def _remedy(facts: Mapping[str, Any]) -> str:
    origin = facts.get("space_from")
    if origin is None:
        return "If it is a space of your own, give it with --space FILE.py:NAME."
    return (
        f"It was made with --space {origin!r:.200}, which wsx does not import because a file says so; if you "
        "trust that code, give it with --space."
    )
