import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_store_samples import make_failed, make_key, make_score

from wsx.errors import StoreError, StoreVersionError
from wsx.store import open_store

GROUP = f"campaigns/{make_key().digest()[:16]}"
N_ARCHS = 5


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("hostile") / "scores.h5"
    with open_store(path, "a") as store:
        campaign = store.campaign(make_key(), image_ids=range(800), info={"seed": 0})
        campaign.append([make_score((i, 1), n_images=800) for i in range(N_ARCHS - 1)])
        campaign.append([make_failed((9, 9), error="naïve ✗")])
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "scores.h5"
    path.write_bytes(content)
    return path


def refused(path: Path, message: str, kind: type[StoreError] = StoreError) -> None:
    with pytest.raises(kind, match=message) as error:
        open_store(path).read()
    assert str(path) in str(error.value)
    # Appending must refuse as well, and leave the file as it is.
    old = path.read_bytes()
    with pytest.raises(kind, match=message), open_store(path, "a") as store:
        store.campaign(make_key(), image_ids=range(800), info={})
    assert path.read_bytes() == old
    assert [entry.name for entry in path.parent.iterdir() if "partial" in entry.name] == []


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no score file"):
        open_store(tmp_path / "scores.h5")
    with pytest.raises(StoreError, match="there is no score file"):
        open_store(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x", b"not HDF5 at all\n" * 1000])
def test_foreign_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.h5"
    path.write_bytes(content)
    refused(path, "is not an HDF5 file")


def test_foreign_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "scores.h5"
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(3)
    refused(path, "not a score file")
    with h5py.File(path, "a") as file:
        file.attrs["format"] = "keras"
    refused(path, "not a score file")


def test_newer_version(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = 2
        file.attrs["wsx_version"] = "7.3"
        del file["campaigns"]
    refused(path, r"format version 2 \(by wsx 7\.3\), wsx .* reads up to 1", StoreVersionError)


@pytest.mark.parametrize("version", [0, -1])
def test_version_that_never_was(path: Path, version: int) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["format_version"] = version
    refused(path, "never existed")


def test_truncated_anywhere(path: Path) -> None:
    content = path.read_bytes()
    rng = random.Random(0)
    for size in [
        0,
        1,
        7,
        8,
        100,
        len(content) - 1,
        *(rng.randrange(len(content)) for _ in range(40)),
    ]:
        path.write_bytes(content[:size])
        with pytest.raises(StoreError, match=r"not an HDF5 file|truncated"):
            open_store(path).read()


def test_damaged_bits_are_noticed(path: Path) -> None:
    with h5py.File(path) as file:
        chunk = file[GROUP]["bits"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    for offset in (0, chunk.size // 2, chunk.size - 1):
        damaged = content.copy()
        damaged[chunk.byte_offset + offset] ^= 0x10
        path.write_bytes(damaged)
        refused(path, "truncated, damaged or unreadable")


def replace(name: str, **options: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file[GROUP][name]
        file[GROUP].create_dataset(name, **options)

    return edit


def external_link(file: h5py.File) -> None:
    with h5py.File(Path(file.filename).with_name("secret.h5"), "w") as other:
        other["x"] = np.zeros(N_ARCHS, dtype="<i8")
    del file[GROUP]["params"]
    file[GROUP]["params"] = h5py.ExternalLink("secret.h5", "/x")


def external_campaign(file: h5py.File) -> None:
    file["campaigns/evil"] = h5py.ExternalLink("secret.h5", "/")


def external_campaigns(file: h5py.File) -> None:
    del file["campaigns"]
    file["campaigns"] = h5py.ExternalLink("secret.h5", "/")


def soft_link(file: h5py.File) -> None:
    del file[GROUP]["params"]
    file[GROUP]["params"] = h5py.SoftLink(f"/{GROUP}/flops")


def external_storage(file: h5py.File) -> None:
    secret = Path(file.filename).with_name("secret.bin")
    secret.write_bytes(bytes(8 * N_ARCHS))
    replace("params", shape=(N_ARCHS,), dtype="<i8", external=[(str(secret), 0, 8 * N_ARCHS)])(file)


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((N_ARCHS,), "<i8")
    layout[:] = h5py.VirtualSource("secret.h5", "x", (N_ARCHS,))
    del file[GROUP]["params"]
    file[GROUP].create_virtual_dataset("params", layout)


def group_for_dataset(file: h5py.File) -> None:
    del file[GROUP]["params"]
    file[GROUP].create_group("params")


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file[GROUP].attrs[name] = value

    return edit


def without(name: str) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        del file[GROUP][name]

    return edit


def renamed(file: h5py.File) -> None:
    file.move(GROUP, "campaigns/0123456789abcdef")


def other_total(file: h5py.File) -> None:
    file[GROUP]["total"][0] += 1


def arch_twice(file: h5py.File) -> None:
    file[GROUP]["arch"][1] = file[GROUP]["arch"][0]


def other_count(file: h5py.File) -> None:
    file[GROUP]["correct"][0] += 1


vlen = h5py.string_dtype()
HOSTILE: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "external link": (external_link, "'params' of .* is a ExternalLink, which is never followed"),
    "external campaign": (external_campaign, "'evil' of .* never followed"),
    "external campaigns": (external_campaigns, "'campaigns' of / is .* never followed"),
    "soft link": (soft_link, "SoftLink, which is never followed"),
    "external storage": (external_storage, "not a dataset stored in this file"),
    "virtual": (virtual, "not a dataset stored in this file"),
    "group": (group_for_dataset, "not a dataset stored in this file"),
    "huge": (replace("bits", shape=(2**40, 100), dtype="u1", chunks=(1000, 100)), "claims 1099511"),
    "unwritten": (replace("bits", shape=(N_ARCHS, 100), dtype="u1"), "but stores 0"),
    "huge string": (replace("text", shape=(N_ARCHS,), dtype="S1000000000"), "has type|claims"),
    "huge chunk": (
        replace(
            "params",
            data=np.zeros(N_ARCHS, dtype="<i8"),
            maxshape=(None,),
            chunks=(2**12,),
            compression="gzip",
        ),
        r"chunks \(4096,\) beyond its shape \(5,\)",
    ),
    "vlen": (replace("text", data=["a"] * N_ARCHS, dtype=vlen), "text has type object"),
    "float": (replace("correct", data=np.zeros(N_ARCHS)), "expected <i8"),
    "big-endian": (replace("correct", data=np.zeros(N_ARCHS, dtype=">i8")), "expected <i8"),
    "axes": (replace("correct", data=np.zeros((N_ARCHS, 1), dtype="<i8")), "2 axes"),
    "length": (replace("correct", data=np.zeros(N_ARCHS - 1, dtype="<i8")), "do not fit together"),
    "bits width": (replace("bits", data=np.zeros((N_ARCHS, 99), dtype="u1")), "do not fit"),
    "filter": (
        replace("params", data=np.zeros(N_ARCHS, dtype="<i8"), compression="lzf"),
        "filters .32000., which are not allowed",
    ),
    "missing": (without("status"), "'status' of .* is missing"),
    "status": (
        replace("status", data=np.array([b"good"] * N_ARCHS, dtype=h5py.string_dtype("utf-8", 4))),
        "a status other than",
    ),
    "utf-8": (
        replace("text", data=np.array([b"\xff"] * N_ARCHS, dtype=h5py.string_dtype("utf-8", 1))),
        "damaged or unreadable",
    ),
    "count": (other_count, "counts other correct images than its bits"),
    "total": (other_total, "counts other images than the campaign"),
    "arch twice": (arch_twice, "an arch occurs twice"),
    "key changed": (attribute("bn", "batch"), "does not carry the digest of its key"),
    "key type": (attribute("bn", 3), "'bn' of .* is not a string"),
    "key array": (attribute("bn", ["a", "b"]), "'bn' of .* not a single value"),
    "batch size": (attribute("batch_size", "64"), "'batch_size' of .* is not an integer"),
    "renamed": (renamed, "does not carry the digest"),
    "info": (attribute("info", "[1]"), "not a JSON object"),
    "info broken": (attribute("info", "{"), "damaged or unreadable"),
    "info deep": (attribute("info", "[" * 10**5), "damaged or unreadable"),
}


def test_the_untouched_file_reads(path: Path) -> None:
    table = open_store(path).read()
    assert len(table) == N_ARCHS
    assert table.error[-1] == "naïve ✗"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file(path: Path, name: str) -> None:
    edit, message = HOSTILE[name]
    with h5py.File(path, "a") as file:
        edit(file)
    assert path.stat().st_size < 10**6
    refused(path, message)


def test_what_others_added_is_read_past_but_never_dropped(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["notes"] = h5py.ExternalLink("elsewhere.h5", "/")
        file[GROUP]["rank"] = np.arange(N_ARCHS)
    assert len(open_store(path).read()) == N_ARCHS
    with pytest.raises(StoreError, match=r"holds notes, /campaigns/\w+/rank, which appending"):
        open_store(path, "a")
