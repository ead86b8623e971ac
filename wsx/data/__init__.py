"""Labelled images in memory, in three splits that never overlap."""

from wsx.data.images import Dataset, ImageSet
from wsx.data.load import LOADERS, load_data

__all__ = ["LOADERS", "Dataset", "ImageSet", "load_data"]
