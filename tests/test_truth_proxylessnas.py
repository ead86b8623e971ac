import numpy as np
import pytest

from wsx.spaces.proxylessnas import PROXYLESSNAS
from wsx.truth import load_truth


@pytest.fixture(scope="module")
def table(shared_data):
    path = shared_data / "proxylessnas" / "ground_truth.parquet"
    return load_truth(f"{path}:accuracy", space="proxylessnas")


def test_the_generic_reader_reads_p1s_table(table):
    assert len(table) == 36
    assert table.accuracy.min() == pytest.approx(0.7477, abs=1e-9)
    assert table.accuracy.max() == pytest.approx(0.76216, abs=1e-9)
    assert table.accuracy.mean() == pytest.approx(0.7580, abs=5e-5)
    assert table.per_seed is None


def test_its_archs_are_36_of_the_space(table):
    texts = [PROXYLESSNAS.format(PROXYLESSNAS.parse(text)) for text in table.texts]
    assert len(set(texts)) == 36
    macro = {"width_percent": 135, "n_classes": 1000, "in_channels": 3, "image_size": 224}
    params = [PROXYLESSNAS.cost(PROXYLESSNAS.parse(text), macro).params for text in texts]
    assert np.array_equal(table.params, params)
