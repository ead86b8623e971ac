"""Labelled images, and text, in memory, in three splits."""

from wsx.data.images import Dataset, ImageSet
from wsx.data.load import LOADERS, load_data
from wsx.data.text import TextDataset, TextSet, load_text

__all__ = [
    "LOADERS",
    "Dataset",
    "ImageSet",
    "TextDataset",
    "TextSet",
    "load_data",
    "load_text",
]
