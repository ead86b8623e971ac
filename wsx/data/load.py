"""From a dataset's spec to three splits in memory."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wsx.data.digits import digits
from wsx.data.folders import folder_source
from wsx.data.hub import hub_source
from wsx.data.images import Dataset, ImageSet
from wsx.data.photos import LazyPixels, read_pixels
from wsx.data.sampling import stratified
from wsx.data.source import Source, SourceSplit
from wsx.data.tables import SUFFIXES, open_shard, split_files, table_source
from wsx.errors import DataError, OptionError, UnknownNameError
from wsx.registry import Registry

LOADERS: Registry[Callable[[], Source]] = Registry("dataset")
LOADERS.register("digits")(digits)

# One stream per purpose, so that asking for fewer training images moves no validation image.
_ORDER, _TEST, _VALID, _TRAIN = range(4)
# Of images that stay on disk: enough for a mean and a deviation to three digits.
_N_MEASURED = 2048
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

Rows = tuple[SourceSplit, NDArray[np.int64]]


def load_data(
    spec: str,
    *,
    seed: int = 0,
    n_train: int | None = None,
    n_valid: int | None = None,
    n_test: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
) -> Dataset:
    """Load a dataset of labelled images and cut what splits it lacks.

    The images of a split lie in a fixed shuffled order that depends on the source alone. A missing
    validation split is cut from the training images, stratified by class, by the seed. A missing
    test split is the source's validation split if there is one, as is usual with ImageNet;
    otherwise it is cut from the training images by a fixed seed, so no seed ever trains on it.

    A split of more than 2 GiB of pixels at the size asked for stays on disk, and its images are decoded
    whenever they are read. Folders, Arrow files and the hub serve that well; large parquet files do not.

    Args:
        spec: A name in LOADERS (``digits``); ``NAME=PATH`` for a folder of parquet or Arrow
            tables named by split, one such table, or an image folder; or ``OWNER/NAME[:CONFIG]``
            on the Hugging Face hub.
        seed: Chooses the validation images and, if n_train is given, the training images.
        n_train: At most so many training images, stratified; None for all.
        n_valid: Number of validation images; None for all of the source's, or a tenth of the
            training images where they are cut (digits: 397).
        n_test: Number of test images; None for all of the source's. Needed where the source has
            training images only (digits: 400).
        image_size: Height and width, or one number for both: resizes the short side and crops the
            centre. Needed where images differ in size.
        image_column: The table column with the images, where several could be it.
        label_column: The table column with the labels, likewise.

    Returns:
        The three splits. Means and standard deviations are those of the train split returned, or of its
        first 2,048 images where it stays on disk.

    Raises:
        UnknownNameError: No dataset or column of that name.
        OptionError: A number below 1, or an option that the kind of source has not.
        DataError: Data that are missing, damaged, unlabelled, of differing sizes, or too few.
    """
    for option, n in (("n_train", n_train), ("n_valid", n_valid), ("n_test", n_test)):
        if n is not None and n < 1:
            raise OptionError(f"{option} is {n}; it must be at least 1")
    if seed < 0:
        raise OptionError(f"seed is {seed}; it must be at least 0")
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    if image_size is not None and min(image_size) < 1:
        raise OptionError(f"image_size is {image_size}; both lengths must be at least 1")
    name, source = _open(spec, image_column, label_column)
    rows = _plan(source, spec, seed, {"train": n_train, "valid": n_valid, "test": n_test})
    pixels = {split: read_pixels(*rows[split], image_size) for split in rows}
    _match_shapes(pixels, rows)
    mean, std = _statistics(pixels["train"])
    sets = {
        split: ImageSet(
            dataset=name,
            split=split,
            pixels=pixels[split],
            labels=part.labels[ids],
            ids=ids,
            source=part.name,
            class_names=source.class_names,
            mean=mean,
            std=std,
            read_photos=part.read_photos if split == "train" else None,
        )
        for split, (part, ids) in rows.items()
    }
    return Dataset(name, spec, sets["train"], sets["valid"], sets["test"])


def _open(spec: str, image_column: str | None, label_column: str | None) -> tuple[str, Source]:
    name, is_local, path = spec.partition("=")
    if is_local:
        if not _NAME.fullmatch(name):
            raise DataError(
                f"{name!r} is no name for a dataset; write NAME=PATH with letters, digits and ._-"
            )
        return name, _open_path(Path(path).expanduser(), image_column, label_column)
    if spec not in LOADERS and Path(spec).exists():
        raise DataError(f"{spec!r} is a path; give it a name: {Path(spec).stem or 'mine'}={spec}")
    if "/" in spec:
        return spec, hub_source(spec, image_column=image_column, label_column=label_column)
    try:
        loader = LOADERS[spec]
    except UnknownNameError as error:
        raise UnknownNameError(
            f"{error} Data on disk are NAME=PATH, data on the Hugging Face hub OWNER/NAME."
        ) from None
    _refuse_columns(spec, image_column, label_column)
    return spec, loader()


def _open_path(path: Path, image_column: str | None, label_column: str | None) -> Source:
    if path.is_dir():
        files = split_files(path)
        if not files:
            _refuse_columns(str(path), image_column, label_column)
            return folder_source(path)
    elif path.is_file() and path.suffix in SUFFIXES:
        files = {"all": [path]}
    else:
        what = "is no .parquet or .arrow file" if path.exists() else "does not exist"
        raise DataError(f"{path} {what}; give a folder of tables or images, or one table")
    shards = {split: [open_shard(file) for file in paths] for split, paths in files.items()}
    return table_source(shards, image_column=image_column, label_column=label_column)


def _refuse_columns(what: str, *columns: str | None) -> None:
    if any(column is not None for column in columns):
        raise OptionError(f"{what} is no table: leave out image_column and label_column")


def _plan(
    source: Source, spec: str, seed: int, n_images: Mapping[str, int | None]
) -> dict[str, Rows]:
    splits = dict(source.splits)
    base = splits.get("train") or splits.get("all")
    if base is None:
        raise DataError(f"{spec!r} has no train split, only {', '.join(splits) or 'nothing'}")
    if "test" not in splits and "valid" in splits:
        splits["test"] = splits.pop("valid")

    chosen: dict[str, NDArray[np.int64]] = {}
    rest = np.arange(base.labels.size)
    for split, stream, default in (
        ("test", [_TEST], source.n_test),
        ("valid", [_VALID, seed], source.n_valid or max(1, rest.size // 10)),
    ):
        generator = np.random.default_rng(stream)
        own = splits.get(split)
        if own is not None:
            n = n_images[split] or own.labels.size
            chosen[split] = _draw(own.labels, n, generator, f"{split} of {spec!r}")
            continue
        n_cut = n_images[split] or default
        if n_cut is None:
            raise DataError(
                f"{spec!r} has no test split; add one, or cut n_test of its {rest.size} images"
            )
        splits[split] = base
        cut = _draw(base.labels[rest], n_cut, generator, f"{split} of {spec!r}")
        chosen[split] = rest[cut]
        rest = np.delete(rest, cut)
    if not rest.size:
        raise DataError(f"{spec!r}: no training image is left beside valid and test; cut fewer")
    n = n_images["train"] or rest.size
    kept = _draw(base.labels[rest], n, np.random.default_rng([_TRAIN, seed]), f"train of {spec!r}")
    splits["train"], chosen["train"] = base, rest[kept]
    return {split: (splits[split], _shuffle(splits[split], ids)) for split, ids in chosen.items()}


def _draw(
    labels: NDArray[np.int64], n: int, generator: np.random.Generator, what: str
) -> NDArray[np.int64]:
    if not 1 <= n <= labels.size:
        raise DataError(f"{what}: {n} images asked for, {labels.size} there; ask for fewer")
    return stratified(labels, n, generator)


def _shuffle(split: SourceSplit, ids: NDArray[np.int64]) -> NDArray[np.int64]:
    # Sources are often sorted by class; a batch or the first n should not be.
    rank = np.random.default_rng([_ORDER]).permutation(split.labels.size)
    return ids[np.argsort(rank[ids])]


def _match_shapes(
    pixels: dict[str, NDArray[np.uint8] | LazyPixels], rows: Mapping[str, Rows]
) -> None:
    n_channels = max(images.shape[1] for images in pixels.values())
    height_width = pixels["train"].shape[2:]
    for split, images in pixels.items():
        if images.shape[2:] != height_width:
            raise DataError(
                f"images differ in size (height x width): {rows['train'][0].name} has "
                f"{height_width[0]}x{height_width[1]}, {rows[split][0].name} has "
                f"{images.shape[2]}x{images.shape[3]}; choose one with image_size"
            )
        if images.shape[1] != n_channels:
            pixels[split] = np.repeat(images[:], n_channels, axis=1)


def _statistics(
    pixels: NDArray[np.uint8] | LazyPixels,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if isinstance(pixels, LazyPixels):
        pixels = pixels[:_N_MEASURED]
    values = np.arange(256) / 255
    mean: list[float] = []
    std: list[float] = []
    for channel in range(pixels.shape[1]):
        share = np.bincount(pixels[:, channel].ravel(), minlength=256) / pixels[:, channel].size
        mean.append(float(share @ values))
        std.append(float(np.sqrt(share @ (values - mean[-1]) ** 2)))
    return tuple(mean), tuple(std)
