"""All contracts on one space."""

from collections.abc import Callable, Mapping
from typing import Any

from wsx.contracts import costs, description, functions, training
from wsx.contracts._base import Contract, ContractError, Figures, Report, Subject
from wsx.contracts.cover import BreachError
from wsx.errors import MissingExtraError
from wsx.registry import unknown_name
from wsx.spaces import Arch, Space, load_space
from wsx.supernets import SUPERNETS, build_supernet

DESCRIPTION: dict[str, Contract] = {
    "text": description.text,
    "order": description.order,
    "sampling": description.sampling,
    "neighbours": description.neighbours,
}
"""Contracts of a space, which need no supernet."""

CONTRACTS: dict[str, Contract] = {
    **DESCRIPTION,
    "extract": functions.same_extracted,
    "onnx": functions.same_in_onnx_runtime,
    "stateless": functions.stateless,
    "decisions": functions.decisions_matter,
    "training": training.one_step_one_arch,
    "cost": costs.same_cost,
}
"""All contracts, in the order in which they are checked."""


def subject_of(
    space: str | Space,
    supernet_options: Mapping[str, Any] | None = None,
    *,
    n_archs: int = 20,
    seed: int = 0,
) -> Subject:
    """Return a registered space, or one's own, with its supernet.

    Args:
        space: The space, or what ``load_space`` takes.
        supernet_options: Macro options; choose few channels and small images.
        n_archs: How many archs at least to check on.
        seed: Of archs, weights and inputs.

    Raises:
        UnknownNameError: There is no such space or option.
        OptionError: The space cannot be imported, or ``n_archs`` is below one.
    """
    described = load_space(space) if isinstance(space, str) else space
    options = dict(supernet_options or {})
    return Subject(
        described, lambda: build_supernet(described.name, options, seed=seed), n_archs, seed
    )


def check_space(
    space: str | Space,
    *,
    supernet_options: Mapping[str, Any] | None = None,
    n_archs: int = 20,
    seed: int = 0,
    on_contract: Callable[[int, int], None] | None = None,
) -> Report:
    """Check every contract that applies to a space, and return what was measured.

    Args:
        space: As in ``subject_of``.
        supernet_options: As in ``subject_of``.
        n_archs: As in ``subject_of``.
        seed: As in ``subject_of``.
        on_contract: Called with the number of contracts checked and their number in all.

    Raises:
        ContractError: A contract is broken; it says which one, and on which arch.
        UnknownNameError: There is no such space, supernet or option.
        OptionError: The space cannot be imported, or an option is out of range.
    """
    subject = subject_of(space, supernet_options, n_archs=n_archs, seed=seed)
    # What is wrong with the options should be said as such.
    subject.make()
    reads_text = SUPERNETS[subject.space.supernet].reads_text
    names = [name for name in CONTRACTS if name in DESCRIPTION or not reads_text]
    passed = {}
    for n_done, name in enumerate(names, 1):
        passed[name] = check_contract(name, subject)
        if on_contract is not None:
            on_contract(n_done, len(names))
    left_out = {name: "its inputs are text" for name in CONTRACTS if name not in names}
    return Report(subject.space.name, len(subject.archs), subject.uncovered, passed, left_out)


def check_contract(name: str, subject: Subject) -> Figures:
    """Check one contract and return what was measured.

    Raises:
        UnknownNameError: There is no such contract.
        ContractError: It is broken.
    """
    if name not in CONTRACTS:
        raise unknown_name("contract", name, list(CONTRACTS))
    contract = CONTRACTS[name]
    try:
        return contract(subject)
    except MissingExtraError:
        raise
    except BreachError as breach:
        text = None if breach.arch is None else _text(subject.space, breach.arch)
        raise ContractError(name, subject.space.name, str(breach), text) from breach
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        raise ContractError(name, subject.space.name, message, None) from error


def _text(space: Space, arch: Arch) -> str:
    try:
        return f"{space.format(arch)} = {arch}"
    except Exception:
        # The text form itself may be what is broken.
        return str(arch)
