"""The HDF5 layout of a score file; ``docs/format.md`` states it for readers in any language.

/                       format, format_version, wsx_version, store_id, folded_through
/campaigns/<digest[:16]>    the fields of the key, digest, info
    image_ids (image,)
    arch (arch, decision)   bits (arch, image/8)
    text (arch,)   function_key   correct   total   loss_sum   seconds_*   status ...
"""

import json
from dataclasses import fields
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from wsx.errors import StoreError
from wsx.store.guard import integer_attribute, member, plain_dataset, text_attribute
from wsx.store.records import COLUMNS, FORMAT, FORMAT_VERSION, STATUSES, ScoreKey, ScoreTable
from wsx.version import __version__

_CAMPAIGNS = "campaigns"
_CHUNK_BYTES = 2**20
_KNOWN = {"image_ids", "arch", "bits", *(column.name for column in COLUMNS)}


def write_header(file: h5py.File, store_id: str, folded_through: int) -> h5py.Group:
    """Write the root attributes of a new file and return the group of its campaigns."""
    file.attrs["format"] = FORMAT
    file.attrs["format_version"] = FORMAT_VERSION
    file.attrs["wsx_version"] = __version__
    file.attrs["store_id"] = store_id
    file.attrs["folded_through"] = folded_through
    return file.create_group(_CAMPAIGNS, track_order=True)


def read_header(file: h5py.File) -> tuple[str, int]:
    """Return the store's identity and the number of the last journal row the file holds."""
    return text_attribute(file, "store_id"), integer_attribute(file, "folded_through")


def campaign_groups(file: h5py.File) -> dict[str, h5py.Group]:
    """Return the groups of the campaigns by digest, oldest first.

    Raises:
        StoreError: A group is missing, linked from elsewhere or misnamed.
    """
    campaigns = _campaigns(file)
    return dict(_named_group(campaigns, name) for name in campaigns)


def campaign_group(file: h5py.File, digest: str) -> h5py.Group | None:
    """Return the group of one campaign, None where there is none; the others are not looked at.

    Raises:
        StoreError: The group is linked from elsewhere or misnamed.
    """
    campaigns = _campaigns(file)
    if digest[:16] not in campaigns:
        return None
    found, group = _named_group(campaigns, digest[:16])
    return group if found == digest else None


def _campaigns(file: h5py.File) -> h5py.Group:
    campaigns = member(file, _CAMPAIGNS)
    if not isinstance(campaigns, h5py.Group):
        raise StoreError(f"{file.filename}: /{_CAMPAIGNS} is not a group")
    return campaigns


def _named_group(campaigns: h5py.Group, name: str) -> tuple[str, h5py.Group]:
    """Return the digest and the group of a name."""
    group = member(campaigns, name)
    if not isinstance(group, h5py.Group):
        raise StoreError(f"{campaigns.file.filename}: {group.name} is not a group")
    digest = read_key(group).digest()
    if text_attribute(group, "digest") != digest or name != digest[:16]:
        raise StoreError(
            f"{campaigns.file.filename}: {group.name} does not carry the digest of its key, {digest}: "
            "its attributes were changed"
        )
    return digest, group


def refuse_foreign_members(file: h5py.File) -> None:
    """Refuse to append to a file that holds more than scores, which folding would drop.

    Raises:
        StoreError: The file holds other objects; the message names them.
    """
    foreign = [name for name in file if name != _CAMPAIGNS]
    foreign += [
        f"{group.name}/{name}"
        for group in campaign_groups(file).values()
        for name in group
        if name not in _KNOWN
    ]
    if foreign:
        raise StoreError(
            f"{file.filename} holds {', '.join(foreign)}, which appending would drop: move them to "
            "a file of their own"
        )


def write_campaign(campaigns: h5py.Group, table: ScoreTable) -> None:
    """Write one campaign into the group of campaigns."""
    digest = table.key.digest()
    group = campaigns.create_group(digest[:16])
    for name, value in table.key.as_dict().items():
        group.attrs[name] = value
    group.attrs["digest"] = digest
    group.attrs["info"] = json.dumps(table.info)
    _write(group, "image_ids", table.image_ids.astype("<i8"), "image", "")
    _write(group, "arch", table.arch.astype("<i2"), "arch, decision", "")
    _write(group, "bits", table.bits, "arch, image/8", "")
    for column in COLUMNS:
        values = getattr(table, column.name)
        is_text = column.dtype == "text"
        values = _fixed_width(values) if is_text else values.astype(column.dtype)
        _write(group, column.name, values, "arch", column.unit)


def _write(group: h5py.Group, name: str, values: NDArray[Any], axes: str, unit: str) -> None:
    options: dict[str, Any] = {}
    if values.size:
        row_bytes = values[:1].nbytes
        n_rows = max(1, min(len(values), _CHUNK_BYTES // row_bytes))
        options = {
            "chunks": (n_rows, *values.shape[1:]),
            "compression": "gzip",
            "compression_opts": 1,
            "fletcher32": True,
        }
    dataset = group.create_dataset(name, data=values, **options)
    dataset.attrs["axes"] = axes
    if unit:
        dataset.attrs["unit"] = unit


def _fixed_width(texts: NDArray[np.object_]) -> NDArray[np.bytes_]:
    encoded = [text.encode() for text in texts]
    width = max(map(len, encoded), default=0) or 1
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", width))


def read_key(group: h5py.Group) -> ScoreKey:
    """Return the key of a campaign's group."""
    return ScoreKey.from_dict(
        {
            field.name: integer_attribute(group, field.name)
            if field.name == "batch_size"
            else text_attribute(group, field.name)
            for field in fields(ScoreKey)
        }
    )


def read_campaign(group: h5py.Group) -> ScoreTable:
    """Return the scores of one campaign.

    Raises:
        StoreError: Datasets are missing, unsafe, of unequal length, or contradict each other.
    """
    sets = {
        "image_ids": plain_dataset(group, "image_ids", dtype="<i8", n_axes=1),
        "arch": plain_dataset(group, "arch", dtype="<i2", n_axes=2),
        "bits": plain_dataset(group, "bits", dtype="u1", n_axes=2),
    } | {
        column.name: plain_dataset(group, column.name, dtype=column.dtype, n_axes=1)
        for column in COLUMNS
    }
    n_archs, n_bytes = len(sets["arch"]), (len(sets["image_ids"]) + 7) // 8
    lengths = {name: len(dataset) for name, dataset in sets.items() if name != "image_ids"}
    if set(lengths.values()) != {n_archs} or sets["bits"].shape[1] != n_bytes:
        raise StoreError(
            f"{group.file.filename}: the datasets of {group.name} do not fit together: lengths "
            f"{lengths}, bits of shape {sets['bits'].shape} for {len(sets['image_ids'])} images"
        )
    arrays: dict[str, Any] = {
        name: _texts(dataset) if dataset.dtype.kind == "S" else dataset[...]
        for name, dataset in sets.items()
    }
    info: Any = json.loads(text_attribute(group, "info"))
    if not isinstance(info, dict):
        raise StoreError(f"{group.file.filename}: the info of {group.name} is not a JSON object")
    table = ScoreTable(key=read_key(group), info=info, **arrays)
    wrong = _contradiction(table)
    if wrong:
        raise StoreError(
            f"{group.file.filename}: in {group.name} {wrong}: the file is damaged, restore it "
            "from a copy"
        )
    return table


def _contradiction(table: ScoreTable) -> str:
    ok = table.ok
    n_ones = np.bitwise_count(table.bits).sum(axis=1, dtype=np.int64)
    if not set(table.status) <= set(STATUSES):
        return f"a row has a status other than {', '.join(STATUSES)}"
    if len({row.tobytes() for row in table.arch}) != len(table):
        return "an arch occurs twice"
    if np.any(table.total[ok] != len(table.image_ids)):
        return "a row counts other images than the campaign has"
    if np.any(n_ones[ok] != table.correct[ok]):
        return "a row counts other correct images than its bits do"
    return ""


def _texts(dataset: h5py.Dataset) -> NDArray[np.object_]:
    texts = np.empty(len(dataset), dtype=object)
    texts[:] = [raw.decode() for raw in dataset[...]]
    return texts
