"""Training supernets, and subnets alone."""

from wsx.training.named_recipes import RECIPES
from wsx.training.recipes import Recipe
from wsx.training.run import DataSpec, Run, RunConfig, open_run
from wsx.training.supernet import train_supernet

__all__ = ["RECIPES", "DataSpec", "Recipe", "Run", "RunConfig", "open_run", "train_supernet"]
