"""Commands that show what there is (spaces, recipes, the installation), parsed like those of ``wsx.cli``."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from wsx import options as o
from wsx.console import print_json, print_rows, progress_bar, stdout
from wsx.errors import WsxError


def spaces(
    name: Annotated[str | None, typer.Argument(help="One space in detail.")] = None,
    json_: o.Json = False,
) -> None:
    """List the spaces, or show one: size, decisions, measures, costs, an example."""
    from wsx.studies.describe import (
        N_COSTED,
        describe_space,
        list_spaces,
        short_count,
        short_range,
    )

    if name is not None:
        facts = describe_space(name)
        return print_json(facts) if json_ else print_rows(facts["name"], facts)
    rows = list_spaces()
    if json_:
        return print_json(rows)
    table = Table("space", "archs", "decisions", "params", "what", "example")
    table.columns[-1].no_wrap, table.columns[-1].max_width = True, 40
    for row in rows:
        size, params = short_count(row["n_archs"]), short_range(row["params"])
        cells = (row["name"], size, str(row["n_decisions"]), params, row["summary"], row["example"])
        table.add_row(*(escape(cell) for cell in cells))
    stdout.print(table)
    return stdout.print(f"params: in the benchmark's own networks, of {N_COSTED} sampled archs")


def check_space_command(
    spec: Annotated[str, typer.Argument(help="Name of a space, or FILE.py:NAME of your own.")],
    n: Annotated[int, typer.Option("--n", help="Archs to check on, at least.")] = 20,
    seed: Annotated[int, typer.Option("--seed", help="Seed of archs, weights and inputs.")] = 0,
    set_: o.SetSupernet = None,
    quiet: o.Quiet = False,
    json_: o.Json = False,
) -> None:
    """Check that a space and its supernet keep every contract: text, sampling, export, training, cost."""
    from wsx.contracts import check_space
    from wsx.training.recipes import parse_macro

    options = {name: parse_macro(text) for name, text in o.parse_settings(set_).items()}
    with progress_bar(is_quiet=quiet) as start:
        result = check_space(
            spec, supernet_options=options, n_archs=n, seed=seed, on_contract=start("check")
        )
    if json_:
        return print_json(result.as_dict())
    left_out = {name: f"left out: {why}" for name, why in result.left_out.items()}
    uncovered = {"uncovered options": ", ".join(result.uncovered)} if result.uncovered else {}
    return print_rows(f"{result.space} keeps", {**result.passed, **left_out, **uncovered})


def recipes(
    name: Annotated[str | None, typer.Argument(help="A recipe, to see all its values.")] = None,
    json_: o.Json = False,
) -> None:
    """List the training recipes, or the values of one."""
    from wsx.training import RECIPES

    if name is not None:
        values = RECIPES[name].as_dict()
        return print_json(values) if json_ else print_rows(f"recipe {name}", values)
    if json_:
        return print_json({name: recipe.as_dict() for name, recipe in RECIPES.items()})
    shown = ("epochs", "batch_size", "lr", "weight_decay", "sampler", "supernet")
    table = Table("recipe", *shown)
    for name, recipe in RECIPES.items():
        table.add_row(name, *(str(getattr(recipe, field)) for field in shown))
    return stdout.print(table)


def doctor(json_: o.Json = False) -> None:
    """Say what is installed, what works, and how to repair what does not."""
    from wsx.studies.doctor import diagnose

    diagnosis = diagnose()
    if json_:
        print_json(diagnosis.as_dict())
    else:
        print_rows("installation", diagnosis.facts)
    if diagnosis.problems:
        raise WsxError("; ".join(diagnosis.problems))
