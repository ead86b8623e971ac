"""One small registry for everything that users call by name."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from wsx.errors import DuplicateNameError, UnknownNameError

T = TypeVar("T")


def unknown_name(kind: str, name: str, known: list[str]) -> UnknownNameError:
    """Return the error for a name that is not among the known ones, with the nearest ones suggested.

    Args:
        kind: What the name should have named, such as ``space``.
        name: The name as given.
        known: All valid names.
    """
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return UnknownNameError(f"no {kind} named {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


class Registry(Mapping[str, T], Generic[T]):
    """A read-only mapping from names to objects, filled by ``register``.

    A miss suggests the nearest names; a second object under a taken name is an error.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers its argument under a name.

        Raises:
            DuplicateNameError: The name is taken by another object.
        """

        def add(entry: T) -> T:
            if name in self._entries and self._entries[name] is not entry:
                raise DuplicateNameError(
                    f"{self.kind} {name!r} is registered twice: {self._entries[name]!r} and {entry!r}"
                )
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            raise unknown_name(self.kind, name, sorted(self._entries)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
