"""A folder of exported subnets that are each other's neighbours, to search in."""

from pathlib import Path

from small_run import write_archs

from wsx.spaces.choice import ArchChoice
from wsx.studies.export_run import export_run
from wsx.studies.run_subnets import RunSubnets
from wsx.training import Run

# Four free edges of two or three options: 54 archs, each with neighbours.
EDGES = [
    (a, b, c, d, 3, 1) for a in range(1, 4) for b in range(1, 4) for c in (1, 3, 4) for d in (1, 3)
]


def edges_folder(run: Run, base: Path, bn: str) -> Path:
    path = base / "searched-subnets"
    if not path.exists():
        choice = ArchChoice(file=write_archs(base / "searched-archs.txt", EDGES))
        export_run(RunSubnets(run, bn), path, choice=choice, n_verified=0)
    return path
