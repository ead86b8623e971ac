import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from own_spaces import isolated_registries

from wsx.errors import ArchError, DuplicateNameError, OptionError, UnknownNameError
from wsx.registry import Registry
from wsx.spaces import SPACES, ProductSpace, Space, load_space
from wsx.spaces.loading import described_space, known_space, space_facts, space_origin

DECISIONS = {"kernel": (3, 5), "width": (8, 12, 16), "rate": (0.5, 1e-3), "skip": (True, False)}
SPACE = ProductSpace("mine", DECISIONS)
ALL = list(SPACE.enumerate())
MODULE = """
from wsx.spaces import ProductSpace
SPACE = ProductSpace({name!r}, {{"kernel": (3, 5), "width": (8, 16)}})
OTHER = 3
"""


@pytest.fixture(autouse=True)
def _isolated():
    with isolated_registries():
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own_mine.py").write_text(MODULE.format(name="mine"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# The description -------------------------------------------------------------------------------------------


def test_archs_are_all_combinations_in_order():
    expected = [
        ",".join(f"{n}={v}" for n, v in zip(DECISIONS, choice, strict=True))
        for choice in itertools.product(*DECISIONS.values())
    ]
    assert [SPACE.format(arch) for arch in ALL] == expected
    assert [SPACE.parse(text) for text in expected] == ALL
    assert SPACE.n_archs == 24
    assert SPACE.is_product


def test_values_are_the_options_themselves():
    assert SPACE.values((1, 0, 1, 1)) == {"kernel": 5, "width": 8, "rate": 1e-3, "skip": False}
    assert SPACE.values((0, 2, 0, 0))["skip"] is True
    with pytest.raises(ArchError, match="width is 3"):
        SPACE.values((0, 3, 0, 0))


def test_decisions_may_be_written_in_any_order():
    assert SPACE.parse(" skip=False, rate=0.5,width=12 ,kernel=5") == (1, 1, 0, 1)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ArchError, "'' must read name=value"),
        ("kernel=3", ArchError, "does not choose width, rate, skip"),
        ("kernel=3,kernel=5,width=8,rate=0.5,skip=True", ArchError, "chooses kernel twice"),
        ("kernl=3,width=8,rate=0.5,skip=True", UnknownNameError, "Did you mean kernel"),
        ("kernel=3,width=11,rate=0.5,skip=True", UnknownNameError, r"no width of mine named '11'"),
        ("kernel=3,width=8,rate=.5,skip=True", UnknownNameError, r"Did you mean 0\.5"),
        (
            "kernel=3=3,width=8,rate=0.5,skip=True",
            UnknownNameError,
            "no kernel of mine named '3=3'",
        ),
    ],
)
def test_malformed_texts_say_what_is_wrong(text, error, message):
    with pytest.raises(error, match=message):
        SPACE.parse(text)


@given(st.text())
@example("kernel=" * 9999)
@example("=" + "9" * 9999)
@example("x=1," * 9999)
def test_parse_never_fails_otherwise_than_by_its_own_errors(text):
    problem = ""
    try:
        SPACE.parse(text)
    except (ArchError, UnknownNameError) as error:
        problem = str(error)
    assert 0 < len(problem) < 1000


@pytest.mark.parametrize(
    ("name", "decisions", "message"),
    [
        ("", DECISIONS, "space name ''"),
        ("a:b", DECISIONS, "space name 'a:b'"),
        ("a b", DECISIONS, "space name 'a b'"),
        (3, DECISIONS, "space name 3"),
        ("a" * 5000, DECISIONS, "space name"),
        ("a", {}, "at least one name"),
        ("a", [("kernel", (3,))], "at least one name"),
        ("a", {"k=": (1,)}, "decision 'k='"),
        ("a", {3: (1,)}, "decision 3"),
        ("a", {"k": ()}, "at least one option"),
        ("a", {"k": "35"}, "at least one option"),
        ("a", {"k": 35}, "at least one option"),
        ("a", {"k": (1, "1")}, "an option twice"),
        ("a", {"k": (1, 1.0, 1)}, "an option twice"),
        ("a", {"k": ("a,b",)}, "without blanks"),
        ("a", {"k": ("a b",)}, "without blanks"),
        ("a", {"k": ("",)}, "without blanks"),
        ("a", {"k": ((3, 3),)}, "must be a number"),
        ("a", {"k": (None,)}, "must be a number"),
        ("a", {"k": (float("nan"),)}, "must be a number"),
        ("a", {"k": (float("inf"),)}, "must be a number"),
    ],
)
def test_decisions_that_have_no_text_are_refused(name, decisions, message):
    with pytest.raises(OptionError, match=message) as caught:
        ProductSpace(name, decisions)
    assert len(str(caught.value)) < 500


def test_a_space_is_its_options_even_through_json():
    again = ProductSpace("mine", json.loads(json.dumps(SPACE.options)))
    assert [again.values(arch) for arch in ALL] == [SPACE.values(arch) for arch in ALL]
    assert again.options == SPACE.options


# Finding it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["own_mine.py:SPACE", "own_mine:SPACE", "./own_mine.py:SPACE"])
def test_a_file_or_module_is_imported_when_the_caller_names_it(folder, spec):
    path = list(sys.path)
    space = load_space(spec)
    assert space.name == "mine"
    assert SPACES["mine"] is space is load_space(spec) is load_space("mine")
    assert space_origin(space) == {"space_from": spec}
    assert sys.path == path


def test_a_file_elsewhere_is_found_and_may_import_its_neighbours(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere")
    (other / "own_parts.py").write_text("KERNELS = (3, 5)\n")
    (other / "own_other.py").write_text(
        "from own_parts import KERNELS\nfrom wsx.spaces import ProductSpace\n"
        "SPACE = ProductSpace('other', {'kernel': KERNELS})\n"
    )
    assert load_space(f"{other / 'own_other.py'}:SPACE").name == "other"


def test_names_find_the_spaces_of_wsx():
    assert load_space("nasbench201") is SPACES["nasbench201"]
    assert space_origin(SPACES["nasbench201"]) == space_facts(SPACES["nasbench201"]) == {}


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("absent.py:SPACE", OptionError, "there is no file absent.py"),
        ("absent:SPACE", OptionError, "no module 'absent' is installed or in the current folder"),
        ("absent.deeper:SPACE", OptionError, "no module 'absent.deeper'"),
        (
            "own_mine:SPCE",
            UnknownNameError,
            "no space in own_mine named 'SPCE'. Did you mean SPACE",
        ),
        ("own_mine:OTHER", UnknownNameError, "no space in own_mine named 'OTHER'"),
        ("own_mine:", UnknownNameError, "no space in own_mine named ''"),
        (":SPACE", OptionError, "cannot be imported: ValueError"),
        ("..own_mine:SPACE", OptionError, "cannot be imported"),
        ("mine", UnknownNameError, "no space named 'mine'"),
        ("own_broken.py:SPACE", OptionError, "cannot be imported: ZeroDivisionError"),
        ("own_needy.py:SPACE", OptionError, "ModuleNotFoundError: No module named 'not_there'"),
    ],
)
def test_what_cannot_be_loaded_says_why(folder, spec, error, message):
    (folder / "own_broken.py").write_text("1 / 0\n")
    (folder / "own_needy.py").write_text("import not_there\n")
    with pytest.raises(error, match=message):
        load_space(spec)
    assert "mine" not in SPACES


def test_a_file_called_like_another_module_is_refused(folder):
    (folder / "json.py").write_text(MODULE.format(name="mine"))
    with pytest.raises(OptionError, match=r"another module is called 'json' .*; rename the file"):
        load_space("json.py:SPACE")


def test_a_second_space_of_a_taken_name_is_refused(folder):
    (folder / "own_second.py").write_text(MODULE.format(name="nasbench201"))
    with pytest.raises(DuplicateNameError, match="'nasbench201' is registered twice"):
        load_space("own_second.py:SPACE")


# Finding it again ------------------------------------------------------------------------------------------


def facts_of(spec):
    space = load_space(spec)
    return json.loads(
        json.dumps({"space": space.name, **space_facts(space), **space_origin(space)})
    )


def test_code_that_a_folder_names_is_not_imported(folder):
    (folder / "own_trap.py").write_text("from pathlib import Path\nPath('sprung').touch()\n")
    hostile = {"space": "own_trap:SPACE", "space_from": "own_trap.py:SPACE"}
    for facts in (hostile, {**hostile, "space": "own_trap.py:SPACE"}, {**hostile, "space": "trap"}):
        for find in (known_space, described_space):
            with pytest.raises(UnknownNameError, match=r"made with --space 'own_trap\.py:SPACE'"):
                find(facts)
    assert not (folder / "sprung").exists()
    assert "own_trap" not in sys.modules
    # The trap works where the caller asks for it.
    with pytest.raises(UnknownNameError):
        load_space("own_trap.py:SPACE")
    assert (folder / "sprung").exists()


def test_a_space_that_is_loaded_again_is_known(folder):
    facts = facts_of("own_mine.py:SPACE")
    assert known_space(facts) is SPACES["mine"]
    with isolated_registries():
        del SPACES._entries["mine"]
        with pytest.raises(UnknownNameError, match="if you trust that code, give it with --space"):
            known_space(facts)
        with pytest.raises(UnknownNameError, match=r"give it with --space FILE\.py:NAME"):
            known_space({"space": "mine"})


def test_decisions_that_changed_since_are_refused(folder):
    facts = facts_of("own_mine.py:SPACE")
    for changed in ({"kernel": [5, 3], "width": [8, 16]}, {"kernel": [3, 5]}, [], 3):
        with pytest.raises(OptionError, match="space mine has other decisions than then"):
            known_space({**facts, "decisions": changed})


def test_an_export_of_a_product_space_needs_no_code(folder):
    facts = facts_of("own_mine.py:SPACE")
    original = SPACES["mine"]
    with isolated_registries():
        del SPACES._entries["mine"]
        space = described_space(facts)
    assert "mine" in SPACES
    assert [space.format(a) for a in space.enumerate()] == [
        original.format(a) for a in original.enumerate()
    ]


@pytest.mark.parametrize("decisions", [None, [], {}, {"k": None}, {"k": [[1]]}, {"k": []}, "abc"])
def test_malformed_decisions_of_a_folder_are_refused(decisions):
    with pytest.raises(OptionError):
        described_space({"space": "mine", "decisions": decisions})


def test_loading_needs_no_torch(folder):
    script = (
        "import sys; from wsx.spaces import load_space; load_space('own_mine.py:SPACE');"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)


# Installed packages ----------------------------------------------------------------------------------------

INSTALLED = """
[wsx.test-spaces]
mine = own_plugin:SPACE
self-registering = own_plugin:REGISTERED
no-space = own_plugin:NUMBER
broken = own_plugin_broken:SPACE
fruit = own_plugin:SPACE
"""


@pytest.fixture
def registry(tmp_path, monkeypatch):
    info = tmp_path / "own_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(INSTALLED)
    (tmp_path / "own_plugin.py").write_text(
        MODULE.format(name="mine") + "NUMBER = 3\nREGISTERED = SPACE\n"
    )
    (tmp_path / "own_plugin_broken.py").write_text("raise RuntimeError('on import')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry("space", group="wsx.test-spaces", base=Space)
    registry.register("fruit")(SPACE)
    return registry


def test_installed_spaces_are_loaded_when_they_are_asked_for(registry):
    assert "own_plugin" not in sys.modules
    assert set(registry) == {"fruit", "mine", "self-registering", "no-space", "broken"}
    assert len(registry) == 5
    assert "mine" in registry
    assert "own_plugin" not in sys.modules
    assert registry["mine"].format((0, 1)) == "kernel=3,width=16"
    assert registry["mine"] is registry["mine"]


def test_a_registered_name_is_not_taken_by_a_package(registry):
    assert registry["fruit"] is SPACE


def test_installed_entries_that_do_not_work_say_so(registry):
    with pytest.raises(OptionError, match="own_plugin:NUMBER, which is no Space"):
        registry["no-space"]
    with pytest.raises(OptionError, match="cannot be imported: RuntimeError: on import"):
        registry["broken"]
    with pytest.raises(UnknownNameError, match="Did you mean mine"):
        registry["mine2"]


def test_drawing_from_a_space_of_ones_own_is_seeded():
    def draw(seed):
        return SPACE.sample(10, rng=np.random.default_rng(seed), measure="encodings")

    assert draw(1) == draw(1) != draw(2)
