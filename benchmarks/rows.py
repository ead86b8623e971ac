"""How benchmarks print what they measured."""

import json
from pathlib import Path


def print_rows(title: str, rows: list[dict[str, float | str]], out: Path | None) -> None:
    """Print rows of ``ratio_rows`` as a table, and write them as JSON if a path is given."""
    print(title)
    for row in rows:
        print(
            f"  {row['job']:<44} {row['items_per_min']:>10.1f} /min {row['ms_per_item']:>10.2f} ms"
            f"   ratio {row['ratio']:.2f} ({row['ratio_min']:.2f}-{row['ratio_max']:.2f})"
        )
    if out is not None:
        out.write_text(json.dumps({"title": title, "rows": rows}, indent=2) + "\n")
