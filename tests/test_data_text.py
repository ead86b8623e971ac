import datasets
import numpy as np
import pytest

from wsx.data.text import TextSet, cut_streams, load_text
from wsx.data.vocabulary import Vocabulary, read_vocabulary, write_vocabulary
from wsx.errors import DataError, OptionError, ShapeError

TEXTS = {"train": "a b c\n\nb a d\n", "valid": "a c\nz z b\n", "test": "d d\nb <unk>"}


def write(folder, suffix=".txt", prefix="", **texts):
    folder.mkdir(exist_ok=True)
    for split, text in (TEXTS | texts).items():
        if text is not None:
            data = text if isinstance(text, bytes) else text.encode()
            (folder / f"{prefix}{split}{suffix}").write_bytes(data)
    return f"mine={folder}"


def words(text):
    return [text_words(text, number) for number in text.tokens]


def text_words(text, number):
    return VOCABULARY[number]


VOCABULARY = ("a", "b", "c", "d", "<eos>", "<unk>")


def test_lines_become_words_and_ends_of_lines(tmp_path):
    data = load_text(write(tmp_path / "t"))
    assert data.vocabulary.words == VOCABULARY
    assert words(data.train) == ["a", "b", "c", "<eos>", "<eos>", "b", "a", "d", "<eos>"]
    assert words(data.valid) == ["a", "c", "<eos>", "<unk>", "<unk>", "b", "<eos>"]
    assert words(data.test) == ["d", "d", "<eos>", "b", "<unk>", "<eos>"]
    assert len(data.train) == 8
    assert data.train.ids.tolist() == list(range(1, 9))


def test_published_file_names_and_carriage_returns_are_read(tmp_path):
    expected = load_text(write(tmp_path / "a"))
    texts = {split: text.replace("\n", "\r\n") for split, text in TEXTS.items()}
    found = load_text(write(tmp_path / "b", ".tokens", "wiki.", **texts))
    for split in TEXTS:
        assert np.array_equal(getattr(found, split).tokens, getattr(expected, split).tokens)


def test_the_given_vocabulary_decides_and_is_in_the_datasets_name(tmp_path):
    spec = write(tmp_path / "t")
    own = load_text(spec)
    other = load_text(spec, vocabulary=Vocabulary(("<unk>", "<eos>", "a")))
    assert other.train.tokens.tolist() == [2, 0, 0, 1, 1, 0, 2, 0, 1]
    assert own.name == other.name == "mine"
    assert own.test.dataset != other.test.dataset
    assert own.test.dataset == f"mine@vocabulary-{own.vocabulary.digest[:16]}"
    assert own.test.digest != other.test.digest


def test_a_vocabulary_is_read_back(tmp_path):
    vocabulary = Vocabulary.of(["a b \u2028 c", "é a"])
    write_vocabulary(tmp_path / "v.txt", vocabulary)
    assert read_vocabulary(tmp_path / "v.txt").words == ("a", "b", "c", "é", "<eos>", "<unk>")
    assert read_vocabulary(tmp_path / "v.txt").digest == vocabulary.digest


@pytest.mark.parametrize(
    "content",
    [b"", b"a\n", b"a\n<eos>\n<unk>\na\n", b"a\n<eos>\n<unk>", b"\xff\n", b"a b\n<eos>\n<unk>\n"],
)
def test_a_damaged_vocabulary_is_refused(tmp_path, content):
    (tmp_path / "v.txt").write_bytes(content)
    with pytest.raises(DataError, match="v\\.txt"):
        read_vocabulary(tmp_path / "v.txt")
    with pytest.raises(DataError, match="cannot be read"):
        read_vocabulary(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"train": ""}, "train of .* holds no words"),
        ({"valid": "\n \n"}, "valid of .* holds no words"),
        ({"test": None}, "lacks test"),
        ({"train": b"\xff\xfe\x00"}, "no UTF-8 text: byte 0"),
        ({"test": "a\x00b"}, "binary"),
        ({"valid": TEXTS["train"]}, "train and valid .* same text"),
        ({"val": "b\n"}, "both mean the valid split"),
    ],
)
def test_bad_texts_are_refused(tmp_path, texts, message):
    with pytest.raises(DataError, match=message):
        load_text(write(tmp_path / "t", **texts))


@pytest.mark.parametrize("spec", ["mine=/no/such", "digits", "", "=x", "a b=x"])
def test_specs_that_name_no_text_are_refused(spec):
    with pytest.raises(DataError):
        load_text(spec)


def test_two_files_for_one_split_are_refused(tmp_path):
    write(tmp_path / "t", prefix="ptb.")
    with pytest.raises(DataError, match="several texts"):
        load_text(write(tmp_path / "t"))


def fake_hub(monkeypatch, column="text", **splits):
    made = {
        split: datasets.Dataset.from_dict({column: texts, "n": [0] * len(texts)})
        for split, texts in splits.items()
    }
    monkeypatch.setattr(datasets, "load_dataset", lambda path, config: datasets.DatasetDict(made))


def test_a_text_of_the_hub(monkeypatch, tmp_path):
    rows = {split: text.splitlines() for split, text in TEXTS.items()}
    rows["validation"] = [f"{line}\n" for line in rows.pop("valid")]
    fake_hub(monkeypatch, **rows)
    expected = load_text(write(tmp_path / "t"))
    found = load_text("owner/name:config")
    for split in TEXTS:
        assert np.array_equal(getattr(found, split).tokens, getattr(expected, split).tokens)


def test_a_hub_dataset_without_text_is_refused(monkeypatch):
    fake_hub(monkeypatch, column="label", train=["a"], validation=["b"], test=["c"])
    with pytest.raises(DataError, match="no column of text"):
        load_text("owner/name")

    def fail(path, config):
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match="no network"):
        load_text("owner/name")


def text_set(n, n_tokens=50):
    tokens = np.random.default_rng(n).integers(n_tokens, size=n)
    return TextSet("mine", "test", tokens, n_tokens)


@pytest.mark.parametrize(
    ("n", "n_streams", "window"), [(101, 4, 7), (12, 5, 3), (3, 10, 2), (9, 2, 4)]
)
def test_streams_predict_every_token_but_the_first_once(n, n_streams, window):
    text = text_set(n)
    inputs, labels = cut_streams(text, n_streams, window)
    assert inputs.shape == labels.shape
    assert (inputs.shape[0], inputs.shape[1] % window) == (n_streams, 0)
    real = labels != -1
    assert np.array_equal(labels[real], text.tokens[1:])
    assert np.array_equal(inputs[real], text.tokens[:-1])
    # Within a stream labels are the inputs moved by one.
    for row in range(n_streams):
        length = int(real[row].sum())
        assert not real[row, length:].any()
        assert np.array_equal(labels[row, : max(0, length - 1)], inputs[row, 1 : max(1, length)])


def test_the_beginning_of_a_text():
    text = text_set(30)
    assert text.take(5).tokens.tolist() == text.tokens[:6].tolist()
    assert (len(text.take(29)), len(text.take(1))) == (29, 1)
    with pytest.raises(DataError, match="has 29"):
        text.take(30)
    with pytest.raises(OptionError):
        text.take(0)


def test_malformed_sets_are_refused():
    with pytest.raises(ShapeError):
        TextSet("mine", "test", np.zeros((2, 2), np.int64), 5)
    with pytest.raises(ShapeError):
        TextSet("mine", "test", np.zeros(4, np.int32), 5)
    with pytest.raises(DataError, match="needs two"):
        TextSet("mine", "test", np.zeros(1, np.int64), 5)
    for wrong in (5, -1):
        with pytest.raises(DataError, match="there are 5 words"):
            TextSet("mine", "test", np.array([0, wrong]), 5)


def test_real_text_has_the_known_sizes(shared_data):
    data = load_text(f"wt2={shared_data / 'text' / 'wt2-mini'}")
    assert [len(s.tokens) for s in (data.train, data.valid, data.test)] == [
        245_569,
        103_034,
        114_612,
    ]
    assert data.valid.n_tokens == len(data.vocabulary) == len(set(data.vocabulary.words))
