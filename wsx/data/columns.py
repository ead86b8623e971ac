"""Which columns of a table hold the images and the labels."""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from wsx.errors import DataError
from wsx.registry import unknown_name

_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "fine_label")


@dataclass(frozen=True)
class Columns:
    """The image column, the label column, and the class names where the table states them."""

    image: str
    label: str
    class_names: tuple[str, ...] | None


def find_columns(schema: pa.Schema, place: str, *, image: str | None, label: str | None) -> Columns:
    """Find the image and label column of a table, by Hugging Face features, types and names.

    Args:
        schema: The table's schema, with its metadata.
        place: The table, for messages.
        image: The image column's name, if it is not to be guessed.
        label: Likewise the label column's.

    Raises:
        UnknownNameError: A named column is not there.
        DataError: No column or several fit, or a named one has the wrong type.
    """
    features = _features(schema)
    image = _choose(
        schema,
        place,
        "image",
        image,
        [c for c in schema.names if _is_image(schema, c)],
        _IMAGE_NAMES,
    )
    class_labels = [c for c in schema.names if _kind(features, c) == "ClassLabel"]
    named = [
        c for c in schema.names if c in _LABEL_NAMES and pa.types.is_integer(schema.field(c).type)
    ]
    label = _choose(schema, place, "label", label, class_labels or named, ("label", "labels"))
    if not _is_image(schema, image):
        raise DataError(
            f"{place}: column {image!r} is {schema.field(image).type}, not encoded images "
            f"(binary, or struct<bytes, path>)"
        )
    if not pa.types.is_integer(schema.field(label).type):
        raise DataError(
            f"{place}: label column {label!r} is {schema.field(label).type}; labels must be "
            f"integers from 0"
        )
    names = features[label].get("names") if _kind(features, label) == "ClassLabel" else None
    return Columns(image, label, tuple(str(name) for name in names) if names else None)


def _choose(
    schema: pa.Schema,
    place: str,
    role: str,
    asked: str | None,
    fitting: list[str],
    preferred: tuple[str, ...],
) -> str:
    if asked is not None:
        if asked not in schema.names:
            raise unknown_name(f"column of {place}", asked, schema.names)
        return asked
    liked = [name for name in fitting if name in preferred]
    for candidates in (fitting, liked):
        if len(candidates) == 1:
            return candidates[0]
    found = f"several {role} columns fit: {', '.join(fitting)}" if fitting else f"no {role} column"
    raise DataError(
        f"{place}: {found}; name one with {role}_column. Columns: {', '.join(schema.names)}"
    )


def _features(schema: pa.Schema) -> dict[str, Any]:
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _kind(features: dict[str, Any], column: str) -> str | None:
    feature = features.get(column)
    return feature.get("_type") if isinstance(feature, dict) else None


def _is_image(schema: pa.Schema, column: str) -> bool:
    kind = schema.field(column).type
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _is_bytes(kind.field(index).type)
    return column in _IMAGE_NAMES and _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
