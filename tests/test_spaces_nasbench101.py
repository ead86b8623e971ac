import itertools

import numpy as np
import pytest
from scipy import stats

from wsx.errors import ArchError, OptionError
from wsx.spaces import SPACES
from wsx.spaces.nasbench101_cell import OPERATIONS, cell_hash, prune, vertex_channels
from wsx.spaces.nasbench101_matrices import distinct_cells

SPACE = SPACES["nasbench101"]
V4, V5 = SPACES["nasbench101-v4"], SPACES["nasbench101-v5"]
SHOT = SPACES["nasbench101-1shot1c"]
FAMILY = [space for name, space in SPACES.items() if name.startswith("nasbench101")]
MACRO = dict(SPACE.reference_macro)

# Cells with the benchmark's hash and number of parameters, one per number of vertices, the best cell last
# (google-research/nasbench, via apourchot/to_share_or_not_to_share).
KNOWN = [
    ("111-m", "6f6257bc3b12d87b8736e81cd4b7ed8b", 1756298),
    ("111101-33", "ea9270f536a1f1094f446246dad4fe89", 21220234),
    ("1111110101-333", "a05c0efdac251392b3299fdadd52ccc1", 31389066),
    ("111110010100101-3333", "0da48e9f9faecf504244c65b82e0ba71", 41557898),
    ("110010010010001100101-33333", "680242898b9a115373c4ab5296db5c5a", 6034146),
    ("110011000101000100101-13m33", "02e5a0247bbdcf2860b7e96f74961594", 32426634),
]


def edges_in(arch, n):
    return {
        pair for pair, bit in zip(itertools.combinations(range(n), 2), arch, strict=False) if bit
    }


def paths(edges, output, start=0):
    if start == output:
        return [[output]]
    return [
        [start, *rest] for i, j in sorted(edges) if i == start for rest in paths(edges, output, j)
    ]


def slow_prune(arch, n):
    """Edges on a path from input to output, by listing all paths."""
    return {edge for path in paths(edges_in(arch, n), n - 1) for edge in itertools.pairwise(path)}


def slow_is_valid(name, arch, n):
    edges = slow_prune(arch, n)
    n_feeding = sum(j == n - 1 and i > 0 for i, j in edges)
    has_residual = (0, n - 1) in edges
    kind = name.removeprefix("nasbench101").lstrip("-")
    is_own = {
        "residual": has_residual,
        "no-residual": not has_residual,
        "1shot1c": edges == edges_in(arch, n)
        and not has_residual
        and [sum(j == v for _, j in edges) for v in range(n)] == [0, 1, 1, 1, 2, 2, 2],
        **{f"a{k}": n_feeding == k for k in range(1, 5)},
    }
    return 0 < len(edges) <= 9 and is_own.get(kind, True)


def test_the_family_has_one_supernet_and_clear_names():
    assert [space.name.removeprefix("nasbench101") for space in FAMILY] == [
        "",
        "-1shot1c",
        *(f"-a{n}" for n in range(1, 5)),
        "-residual",
        "-no-residual",
        *(f"-v{n}" for n in range(3, 7)),
    ]
    assert {space.supernet for space in FAMILY} == {"nasbench101"}
    assert [len(space.decisions) for space in FAMILY] == [26] * 8 + [4, 8, 13, 19]
    assert SPACE.decisions[5].name == "0->6"
    assert SPACE.decisions[21].options == OPERATIONS


# Counts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_archs", "n_cells"),
    [
        # One cell of 2 vertices, 6 of 3, 84 of 4, 2,441 of 5 and 62,010 of 6, as the benchmark counts them.
        ("v3", 15, 7),
        ("v4", 423, 91),
        ("v5", 22_680, 2_532),
        ("v6", 2_198_502, 64_542),
        ("1shot1c", 95_985, 42_228),
    ],
)
def test_numbers_of_encodings_and_cells(name, n_archs, n_cells):
    space = SPACES[f"nasbench101-{name}"]
    assert space.n_archs == n_archs
    cells = space.population("archs")
    assert len(cells) == len(set(cells)) == n_cells
    assert space.population("encodings") is None
    assert all(space.check(arch) == arch for arch in cells[::500])


@pytest.mark.slow
def test_the_full_space_has_423624_cells_in_parts():
    sizes = {space.name: len(distinct_cells(space._codes, space.n_vertices)[0]) for space in FAMILY}
    assert sizes["nasbench101"] == 423_624
    # The cell without any operation feeds the output by the input alone.
    assert 1 + sum(sizes[f"nasbench101-a{n}"] for n in range(1, 5)) == 423_624
    assert sizes["nasbench101-residual"] + sizes["nasbench101-no-residual"] == 423_624
    parts = SPACES["nasbench101-residual"].n_archs + SPACES["nasbench101-no-residual"].n_archs
    assert SPACE.n_archs == parts == 373_754_169


@pytest.mark.slow
def test_cells_are_the_distinct_hashes_of_all_encodings():
    listed = [V5.truth_text(arch) for arch in V5.population("archs")]
    assert len(set(listed)) == len(listed) == 2_532
    some = V5.sample(1000, rng=np.random.default_rng(0), measure="encodings")
    assert {V5.truth_text(arch) for arch in some} <= set(listed)
    assert {V4.truth_text(arch) for arch in V4.enumerate()} == {
        V4.truth_text(arch) for arch in V4.population("archs")
    }
    # Of the thousands of 1Shot1 cells a part: hashes cost.
    shot = [SHOT.truth_text(arch) for arch in SHOT.population("archs")[::40]]
    assert len(set(shot)) == len(shot)


@pytest.mark.parametrize("space", [V4, V5], ids=["v4", "v5"])
def test_validity_of_every_small_matrix(space):
    n = space.n_vertices
    n_edges = n * (n - 1) // 2
    ops = tuple(range(n - 2))
    for bits in itertools.product((0, 1), repeat=n_edges):
        assert space.is_valid((*bits, *ops)) == slow_is_valid(space.name, bits, n), bits


@pytest.mark.parametrize("space", FAMILY[:8], ids=lambda space: space.name)
def test_validity_of_random_matrices(space):
    rng = np.random.default_rng(3)
    # Sparse ones, of which many have few enough edges; and archs of the space with an edge flipped.
    bits = (rng.random((150, 21)) < rng.uniform(0.1, 0.6, (150, 1))).astype(int).tolist()
    for arch in space.sample(60, rng=rng, measure="encodings"):
        flipped = list(arch)
        flipped[int(rng.integers(21))] ^= 1
        bits += [arch, flipped]
    found = [space.is_valid((*row[:21], 0, 1, 2, 0, 1)) for row in bits]
    assert found == [slow_is_valid(space.name, row[:21], 7) for row in bits]
    assert 0 < sum(found) < len(found)


def test_archs_without_a_path_or_with_ten_edges_are_refused():
    for text in ("000000000000000000000-33333", "111111000010001001011-33333"):
        with pytest.raises(ArchError, match=r"is no arch of nasbench101: 423,624 cells"):
            SPACE.parse(text)
    with pytest.raises(ArchError, match="fed by 1 inner"):
        SPACES["nasbench101-a1"].parse("110111-33")


# Order and draws -------------------------------------------------------------------------------------------


def test_index_and_arch_at_are_inverse_and_ascend():
    archs = list(V4.enumerate())
    assert archs == sorted(set(archs))
    assert [V4.index(arch) for arch in archs] == list(range(423))
    rng = np.random.default_rng(0)
    indices = sorted(int(i) for i in rng.integers(SPACE.n_archs, size=200))
    drawn = [SPACE.arch_at(i) for i in [0, *indices, SPACE.n_archs - 1]]
    assert [SPACE.index(arch) for arch in drawn] == [0, *indices, SPACE.n_archs - 1]
    assert drawn == sorted(drawn)
    for index in (-1, SPACE.n_archs):
        with pytest.raises(ArchError, match=r"lies outside 0\.\.373754168 of nasbench101"):
            SPACE.arch_at(index)


def test_draws_of_encodings_are_uniform():
    rng = np.random.default_rng(5)
    counts = dict.fromkeys(V4.enumerate(), 0)
    for _ in range(20 * len(counts)):
        counts[V4.draw(rng=rng, measure="encodings")] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


def test_draws_of_archs_are_uniform_over_the_listed_cells():
    rng = np.random.default_rng(4)
    counts = dict.fromkeys(V4.population("archs"), 0)
    for _ in range(20 * len(counts)):
        counts[V4.draw(rng=rng, measure="archs")] += 1
    assert stats.chisquare(list(counts.values())).pvalue > 0.01


@pytest.mark.slow
def test_listed_encodings_prefer_no_vertex():
    forms = {}
    for arch in V5.enumerate():
        # Encodings whose dropped vertices have no edges and the first operation, by their cell.
        cell, ops = V5.cell(arch), arch[-3:]
        is_bare = not any(op for v, op in enumerate(ops, 1) if v not in cell.inner)
        if is_bare and sum(arch[:10]) == sum(map(len, cell.parents)):
            forms.setdefault(V5.truth_text(arch), []).append(arch)
    listed = V5.population("archs")
    assert all(arch in forms[V5.truth_text(arch)] for arch in listed)
    means = np.array([np.mean(archs, axis=0) for archs in forms.values()])
    second = np.array([np.mean(np.square(archs), axis=0) for archs in forms.values()])
    sigma = np.sqrt((second - means**2).sum(axis=0))
    # The listing had a choice in most bits, or keeping to it would mean little.
    assert (sigma > 5).sum() > 8
    surplus = np.sum(listed, axis=0) - means.sum(axis=0)
    assert (np.abs(surplus) <= 4 * sigma + 1e-9).all()


def test_the_two_measures_weigh_cells_differently():
    rng = np.random.default_rng(6)
    n = 4000

    def share_of_small_cells(measure):
        drawn = (V4.draw(rng=rng, measure=measure) for _ in range(n))
        return sum(len(V4.cell(arch).inner) < 2 for arch in drawn) / n

    n_small = sum(len(V4.cell(arch).inner) < 2 for arch in V4.enumerate())
    # Seven cells of 91 have fewer than four vertices. Five standard errors are below .04.
    assert abs(share_of_small_cells("archs") - 7 / 91) < 0.04
    assert abs(share_of_small_cells("encodings") - n_small / 423) < 0.04
    assert n_small / 423 > 0.3


# Cells -----------------------------------------------------------------------------------------------------


def test_pruning_keeps_what_lies_on_a_path():
    rng = np.random.default_rng(1)
    for arch in SPACE.sample(200, rng=rng, measure="encodings"):
        cell = SPACE.cell(arch)
        found = {(i, j) for j, sources in enumerate(cell.parents) for i in sources}
        assert found == slow_prune(arch, 7)
        kept = {v for edge in found for v in edge} - {0, 6}
        assert cell.inner == tuple(sorted(kept))
        assert [cell.ops[v] for v in cell.inner] == [arch[20 + v] for v in cell.inner]


@pytest.mark.parametrize(("text", "digest", "params"), KNOWN)
def test_published_hashes_and_parameters(text, digest, params):
    arch = SPACE.parse(text)
    assert SPACE.truth_text(arch) == digest
    assert SPACE.cost(arch, MACRO).params == params


def renumbered(arch, n, rng):
    """The same cell with its inner vertices in another order that goes forward, and dangling edges."""
    pairs = list(itertools.combinations(range(n), 2))
    while True:
        order = [0, *(1 + rng.permutation(n - 2)), n - 1]
        edges = {(order[i], order[j]) for i, j in edges_in(arch, n)}
        if all(i < j for i, j in edges):
            ops = [0] * (n - 2)
            for vertex in range(1, n - 1):
                ops[order[vertex] - 1] = arch[len(pairs) + vertex - 1]
            return (*(int(pair in edges) for pair in pairs), *ops)


def test_isomorphic_encodings_share_the_hash_and_not_the_function():
    rng = np.random.default_rng(2)
    n_moved = 0
    for arch in V5.sample(150, rng=rng, measure="encodings"):
        other = renumbered(arch, 5, rng)
        assert V5.truth_text(other) == V5.truth_text(arch)
        is_same = V5.function_key(other) == V5.function_key(arch)
        assert is_same == (V5.cell(other) == V5.cell(arch))
        n_moved += not is_same
    assert n_moved > 20


def test_dangling_vertices_change_neither_hash_nor_function():
    # Edges 0->3, 1->2 and 3->5 lead nowhere, 4->6 comes from nowhere.
    clean = SPACE.parse("100000" + "00001" + "0000" + "000" + "00" + "0" + "-3m111")
    dangling = SPACE.parse("101000" + "10001" + "0000" + "010" + "01" + "0" + "-3133m")
    assert clean != dangling
    assert SPACE.function_key(clean) == SPACE.function_key(dangling)
    assert SPACE.truth_text(clean) == SPACE.truth_text(dangling)
    changed = (*dangling[:21], 1, *dangling[22:])
    assert SPACE.function_key(changed) != SPACE.function_key(dangling)
    assert SPACE.truth_text(changed) != SPACE.truth_text(dangling)


def test_the_hash_tells_operations_from_their_places():
    # A chain of two operations, in either order; and two parallel ones, whose order is nothing.
    assert cell_hash(prune((1, 0, 0, 1, 0, 1, 0, 1), 4)) != cell_hash(
        prune((1, 0, 0, 1, 0, 1, 1, 0), 4)
    )
    assert cell_hash(prune((1, 1, 0, 0, 1, 1, 0, 1), 4)) == cell_hash(
        prune((1, 1, 0, 0, 1, 1, 1, 0), 4)
    )


@pytest.mark.parametrize(
    ("text", "channels", "expected"),
    [
        ("1-", 7, (0, 0, 0, 0, 0, 0, 7)),
        ("111-3", 7, (0, 7, 0, 0, 0, 0, 7)),
        ("110111-33", 7, (0, 4, 3, 0, 0, 0, 7)),
        # Vertex 1 feeds 2 and 3, which share seven channels; it has as many as the wider one.
        ("1000110011-333", 7, (0, 4, 4, 3, 0, 0, 7)),
        # Vertex 2 feeds 3 alone, which has the smaller share; vertex 1 feeds the output too.
        ("1100001101-333", 7, (0, 4, 3, 3, 0, 0, 7)),
        ("1111001011-333", 8, (0, 3, 3, 2, 0, 0, 8)),
    ],
)
def test_channels_of_vertices(text, channels, expected):
    assert vertex_channels(SPACE.cell(SPACE.parse(text)), channels) == expected


def test_too_few_channels_are_refused():
    arch = SPACE.parse("1111001011-333")
    for use in (
        lambda: vertex_channels(SPACE.cell(arch), 2),
        lambda: SPACE.cost(arch, MACRO | {"channels": 2}),
    ):
        with pytest.raises(
            OptionError, match="3 vertices cannot share 2 channels; raise channels to 3"
        ):
            use()
    assert SPACE.widths(7) == (1, 2, 3, 4, 7)
    assert SHOT.widths(8) == (4,)
    assert SPACES["nasbench101-a3"].widths(128) == (42, 43)
    with pytest.raises(OptionError, match="up to 4 vertices of nasbench101 share them"):
        SPACE.widths(3)


def test_cost_of_a_chain_by_hand():
    # Input -> conv3x3 -> output: a stem, one cell, a classifier.
    small = MACRO | {"channels": 4, "stacks": 1, "cells_per_stack": 1, "image_size": 5}
    cost = SPACE.cost(SPACE.parse("101-3"), small)
    kernels = 3 * 9 * 4 + 4 * 4 + 9 * 4 * 4
    assert cost.params == kernels + 2 * 3 * 4 + 4 * 10 + 10
    assert cost.flops == kernels * 25 + 4 * 10 + 10
    plain = SPACE.cost(SPACE.parse("101-3"), small | {"is_affine": False})
    assert plain.params == cost.params - 2 * 3 * 4


# Neighbours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", FAMILY, ids=lambda space: space.name)
def test_neighbours_are_valid_and_symmetric(space):
    rng = np.random.default_rng(8)
    arch = space.sample(1, rng=rng, measure="encodings")[0]
    found = space.neighbours(arch)
    assert len(set(found)) == len(found) > 0
    assert arch not in found
    for other in found:
        assert space.check(other) == other
        assert arch in space.neighbours(other)
    assert space.mutate(arch, rng=rng) in found


def test_neighbours_of_the_full_space_differ_in_one_decision():
    arch = SPACE.parse(KNOWN[-1][0])
    found = SPACE.neighbours(arch)
    changed = [
        (*arch[:place], option, *arch[place + 1 :])
        for place, n in enumerate(SPACE.n_options)
        for option in range(n)
        if option != arch[place]
    ]
    assert sorted(found) == sorted(filter(SPACE.is_valid, changed))


@pytest.mark.parametrize("name", ["1shot1c", "a2"])
def test_spaces_of_fixed_counts_can_be_walked(name):
    space = SPACES[f"nasbench101-{name}"]
    rng = np.random.default_rng(9)
    arch = space.sample(1, rng=rng, measure="encodings")[0]
    outputs = set()
    for _ in range(150):
        arch = space.mutate(arch, rng=rng)
        outputs.add(space.cell(arch).parents[-1])
    # Vertex 5 and one of four others feed the output of a 1Shot1 cell, and more pairs can elsewhere.
    assert len(outputs) >= 3


@pytest.mark.parametrize(
    "method", ["format", "index", "truth_text", "function_key", "neighbours", "is_reachable"]
)
@pytest.mark.parametrize("arch", [(), (0,) * 26, (1,) * 26, (1,) * 21 + (3,) * 5, (0.5,) * 26])
def test_what_is_no_arch_is_refused_everywhere(method, arch):
    with pytest.raises(ArchError):
        getattr(SPACE, method)(arch)
    with pytest.raises(ArchError):
        SPACE.cost(arch, MACRO)
