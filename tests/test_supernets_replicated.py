import pytest
import torch
from sharing_nets import (
    CONVS,
    MACROS,
    build,
    images,
)

from wsx.errors import OptionError
from wsx.spaces import SPACES
from wsx.supernets import build_supernet


def test_copies_are_of_one_arch_and_all_their_own():
    net = build("nasbench201", {"arch": CONVS, "copies": 3})
    assert (net.space.name, net.space.n_archs) == ("nasbench201-copies", 3**6)
    assert net.space.format((0, 1, 2, 0, 1, 2)) == "0-1=0,0-2=1,1-2=2,0-3=0,1-3=1,2-3=2"
    x = images(net)
    logits = [net(x, arch) for arch in ((0,) * 6, (1,) * 6, (2,) * 6, (0, 0, 0, 0, 0, 1))]
    assert all(not torch.equal(a, b) for i, a in enumerate(logits) for b in logits[:i])
    # The first copies are those of the arch in a plain supernet.
    alone = build_supernet("nasbench201", MACROS["nasbench201"], seed=0).eval()
    fresh = build_supernet(
        "nasbench201", MACROS["nasbench201"], seed=0, sharing={"arch": CONVS, "copies": 3}
    ).eval()
    arch = SPACES["nasbench201"].parse(CONVS)
    assert torch.equal(fresh(x, (0,) * 6), alone(x, arch))


def test_copies_leave_none_and_edges_of_cells_alone():
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|none~1|nor_conv_1x1~2|"
    net = build("nasbench201", {"arch": text, "copies": 2})
    assert [d.name for d in net.space.decisions] == ["0-1", "1-2", "0-3", "2-3"]
    x = images(net)
    # What has no weights computes the same in every copy.
    assert torch.equal(net(x, (0, 0, 0, 0)), net(x, (0, 1, 1, 0)))
    assert not torch.equal(net(x, (0, 0, 0, 0)), net(x, (1, 0, 0, 0)))
    cells = build("nasbench101-v4", {"arch": "111011-31", "copies": 2})
    assert [d.name for d in cells.space.decisions] == ["op1", "op2"]
    one, other = cells.net.stacks[0][0].vertices[0]
    assert one.projection is other.projection
    assert one.ops["conv3x3-bn-relu"] is not other.ops["conv3x3-bn-relu"]


@pytest.mark.parametrize(
    ("space", "sharing", "macro", "message"),
    [
        ("darts", "first", {}, "operations of darts cannot be copied; those of nasbench201,"),
        (
            "nasbench201",
            "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
            {},
            "has no operation to copy",
        ),
        ("nasbench201", CONVS, {"shares": "node"}, "set the macro option shares to edge"),
    ],
)
def test_what_cannot_be_copied_is_refused(space, sharing, macro, message):
    text = SPACES[space].format(SPACES[space].arch_at(0)) if sharing == "first" else sharing
    with pytest.raises(OptionError, match=message):
        build_supernet(space, MACROS[space] | macro, seed=0, sharing={"arch": text, "copies": 2})


def test_copies_are_not_restricted_and_text_is_not_grouped():
    with pytest.raises(OptionError, match="leave the restriction out"):
        build("cell64", {"arch": "434", "copies": 2}, restriction={"0->1": ["dil_conv"]})
    with pytest.raises(
        OptionError, match="darts-ptb reads text, and all its archs share all weights"
    ):
        build_supernet(
            "darts-ptb", {"n_tokens": 9, "hidden_size": 3}, seed=0, sharing={"groups": "by:act/0"}
        )
