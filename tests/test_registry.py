import pytest

from wsx.errors import DuplicateNameError, UnknownNameError, WsxError
from wsx.registry import Registry, unknown_name


def filled():
    registry = Registry("fruit")
    registry.register("apple")("A")
    registry.register("apricot")("B")
    return registry


def test_it_is_a_mapping_in_order_of_registration():
    registry = filled()
    assert dict(registry) == {"apple": "A", "apricot": "B"}
    assert list(registry) == ["apple", "apricot"]
    assert len(registry) == 2
    assert "apple" in registry
    assert "pear" not in registry
    assert 5 not in registry
    assert registry.get("pear") is None


def test_register_gives_back_what_it_got():
    registry = Registry("function")

    @registry.register("double")
    def double(x):
        return 2 * x

    assert double(3) == registry["double"](3) == 6


def test_a_miss_suggests_the_nearest_names():
    with pytest.raises(UnknownNameError) as caught:
        filled()["aple"]
    assert str(caught.value) == "no fruit named 'aple'. Did you mean apple? Known: apple, apricot."
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, WsxError)
    assert caught.value.__suppress_context__


def test_a_miss_far_from_all_names_lists_them():
    with pytest.raises(UnknownNameError, match=r"^no fruit named 'xyz'\. Known: apple, apricot\.$"):
        filled()["xyz"]
    assert str(unknown_name("fruit", "x", [])) == "no fruit named 'x'. Known: none."


def test_a_second_object_under_a_taken_name_is_an_error():
    registry = filled()
    same = registry["apple"]
    assert registry.register("apple")(same) is same
    with pytest.raises(
        DuplicateNameError, match=r"fruit 'apple' is registered twice: 'A' and 'other'"
    ):
        registry.register("apple")("other")
    assert registry["apple"] is same


def test_the_empty_name_is_a_name():
    with pytest.raises(UnknownNameError, match="no fruit named ''"):
        filled()[""]
