"""Stand-alone accuracies of archs: the thing that rankings are compared with."""

from wsx.truth.files import read_truth, write_truth
from wsx.truth.load import load_truth, packaged_tables
from wsx.truth.nats import read_nats
from wsx.truth.table import SeedAgreement, TruthTable

__all__ = [
    "SeedAgreement",
    "TruthTable",
    "load_truth",
    "packaged_tables",
    "read_nats",
    "read_truth",
    "write_truth",
]
