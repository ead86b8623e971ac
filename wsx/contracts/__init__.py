"""Contracts that every space and its supernet keep, to be run on one's own: ``check_space("FILE.py:NAME")``."""

from wsx.contracts._base import ContractError, Report, Subject
from wsx.contracts.check import CONTRACTS, DESCRIPTION, check_contract, check_space, subject_of

__all__ = [
    "CONTRACTS",
    "DESCRIPTION",
    "ContractError",
    "Report",
    "Subject",
    "check_contract",
    "check_space",
    "subject_of",
]
