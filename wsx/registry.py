"""One small registry for everything that users call by name."""

import difflib
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from wsx.errors import DuplicateNameError, OptionError, UnknownNameError

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
    """A read-only mapping from names to objects, filled by ``register`` and by installed packages.

    A miss suggests the nearest names; a second object under a taken name is an error.

    Args:
        kind: What the names name, such as ``space``.
        group: Entry point group in which other packages offer entries; these are imported when first asked
            for, and never take a name that is registered.
        base: What an offered entry must be an instance of.
    """

    def __init__(self, kind: str, *, group: str | None = None, base: type = object) -> None:
        self.kind = kind
        self._group = group
        self._base = base
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

    @cached_property
    def _offers(self) -> dict[str, EntryPoint]:
        found = entry_points(group=self._group) if self._group else ()
        return {point.name: point for point in found}

    def _load(self, name: str) -> None:
        point = self._offers[name]
        try:
            entry = point.load()
        except Exception as error:
            # Somebody else's module may raise anything.
            raise OptionError(
                f"{self.kind} {name!r} is installed as {point.value} and cannot be imported: "
                f"{type(error).__name__}: {error}"
            ) from error
        if name in self._entries:
            # The module registered it while it was imported.
            return
        if not isinstance(entry, self._base):
            raise OptionError(
                f"{self.kind} {name!r} is installed as {point.value}, which is no {self._base.__name__}"
            )
        self._entries[name] = entry  # type: ignore[assignment]  # `base` says what T is

    def __getitem__(self, name: str) -> T:
        if name not in self._entries and name in self._offers:
            self._load(name)
        try:
            return self._entries[name]
        except KeyError:
            raise unknown_name(self.kind, name, sorted(self)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._offers

    def __iter__(self) -> Iterator[str]:
        return iter([*self._entries, *(n for n in self._offers if n not in self._entries)])

    def __len__(self) -> int:
        return len({*self._entries, *self._offers})
