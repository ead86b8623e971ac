import pytest
import torch
from sharing_nets import (
    ALL,
    MACROS,
    build,
    images,
    saved,
)

from wsx.errors import CheckpointError
from wsx.supernets.build import pinned_sharing
from wsx.supernets.checkpoint import save_tensors
from wsx.supernets.inherit import inherit, pinned_checkpoint


def own(sharing, space="cell64", **more):
    return {"space": space, "sharing": pinned_sharing(sharing), **more}


def test_every_member_inherits_the_parent(tmp_path):
    parent = build("cell64", {}, seed=5)
    path = saved(tmp_path / "a.safetensors", "cell64", parent)
    sharing = {"groups": "by:0->1", "shared": "prefix:1"}
    child = build("cell64", sharing, seed=6)
    x = images(parent)
    assert not torch.equal(child(x, (0, 1, 2)), parent(x, (0, 1, 2)))
    inherit(child, pinned_checkpoint(path), own(sharing))
    assert all(torch.equal(child(x, arch), parent(x, arch)) for arch in ALL[::5])
    path = saved(tmp_path / "b.safetensors", "cell64", child, sharing=pinned_sharing(sharing))
    grandchild = build("cell64", sharing, seed=7)
    inherit(grandchild, pinned_checkpoint(path), own(sharing))
    assert all(torch.equal(grandchild(x, arch), parent(x, arch)) for arch in ALL[::5])


def test_parents_that_do_not_fit_are_refused(tmp_path):
    sharing = {"groups": "random:2"}
    grouped = build("cell64", sharing)
    path = saved(tmp_path / "a.safetensors", "cell64", grouped, sharing=pinned_sharing(sharing))
    parent = pinned_checkpoint(path)
    plain = build("cell64", {})
    with pytest.raises(
        CheckpointError, match=r"it has sharing .*random:2:42.* instead of sharing {}"
    ):
        inherit(plain, parent, own({}))
    with pytest.raises(CheckpointError, match="random:4:42"):
        inherit(build("cell64", {"groups": "random:4"}), parent, own({"groups": "random:4"}))
    with pytest.raises(CheckpointError, match=r"restriction None instead of .*restriction {'0->1'"):
        inherit(grouped, parent, own(sharing, restriction={"0->1": ["dil_conv"]}))
    with pytest.raises(CheckpointError, match=r"it is of cell64 .*, not of nasbench201"):
        inherit(build("nasbench201", {}), parent, own({}, "nasbench201"))
    other = saved(
        tmp_path / "b.safetensors",
        "cell64",
        plain,
        supernet={**MACROS["cell64"], "reading": "code"},
    )
    with pytest.raises(CheckpointError, match=r"reading='code'.* not of"):
        inherit(plain, pinned_checkpoint(other), own({}))
    save_tensors(
        other, plain.state_dict(), {"space": "cell64", "supernet": MACROS["cell64"], "step": 2}
    )
    with pytest.raises(CheckpointError, match="has changed: its digest is"):
        inherit(plain, parent.replace("a.safe", "b.safe"), own({}))
    with pytest.raises(CheckpointError, match="must read PATH@SHA256"):
        inherit(plain, str(path), own({}))
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(CheckpointError, match="there is no checkpoint"):
            pinned_checkpoint(missing)
