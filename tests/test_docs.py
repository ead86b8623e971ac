import ast
import re
from pathlib import Path

import pytest

import wsx

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_python_of_the_readme_is_the_example_that_runs():
    (code,) = blocks("python")
    example = ast.parse((ROOT / "examples" / "loop.py").read_text())
    (guarded,) = [node for node in example.body if isinstance(node, ast.If)]
    statements = [ast.unparse(node) for node in ast.parse(code).body]
    body = [ast.unparse(node) for node in guarded.body]
    assert [s for s in statements if not s.startswith(("import", "from"))] == [
        s for s in body if not s.startswith("print(")
    ]


def test_every_public_name_of_the_package_exists():
    assert {name for name in wsx.__all__ if not hasattr(wsx, name)} == set()
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        wsx.__getattr__("nonsense")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page):
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_nothing_names_a_path_of_one_machine():
    suspicious = re.compile(r"/(?:home|root|work|tmp|Users)/\w")
    files = [*PAGES, *(ROOT / "wsx").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    assert [str(f) for f in files if suspicious.search(f.read_text(encoding="utf-8"))] == []
