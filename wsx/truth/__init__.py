"""Stand-alone accuracies of archs: the thing that rankings are compared with."""

from wsx.truth.files import read_truth, write_truth
from wsx.truth.load import load_truth, packaged_tables
from wsx.truth.nasbench101 import read_nasbench101
from wsx.truth.nats import read_nats
from wsx.truth.nds import read_nds
from wsx.truth.table import SeedAgreement, TruthTable

__all__ = [
    "SeedAgreement",
    "TruthTable",
    "load_truth",
    "packaged_tables",
    "read_nasbench101",
    "read_nats",
    "read_nds",
    "read_truth",
    "write_truth",
]
