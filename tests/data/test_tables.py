"""CSV and Parquet lists."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelpenet.data import VOC_CLASSES, DatasetError, load_dataset


@pytest.fixture
def csv_file(tmp_path, photo):
    for name in ("a.jpg", "b.jpg", "photos/c.png"):
        photo(tmp_path / name)

    def write(text: str | bytes):
        path = tmp_path / "list.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def labels(dataset):
    return {r.name: [dataset.classes[label] for label in r.labels] for r in dataset.records}


@pytest.mark.parametrize(
    "text",
    [
        "image,labels\na.jpg,dog cat\nb.jpg,\nphotos/c.png,dog\n",
        "image,labels\na.jpg,dog|cat\nb.jpg,\nphotos/c.png,dog\n",
        "\ufeffimage,labels\r\na.jpg,dog   cat\r\n\r\nb.jpg,\r\nphotos/c.png,dog\r\n",
        'labels,"image",note\ncat dog dog,a.jpg,"x, y"\n,b.jpg,\ndog,photos\\c.png,\n',
        "image , labels\n./a.jpg, dog cat \n b.jpg, \nphotos//c.png,dog",
    ],
    ids=["blanks", "pipes", "windows", "columns", "sloppy"],
)
def test_csv(csv_file, text):
    dataset = load_dataset(csv_file(text))
    assert dataset.classes == ("cat", "dog")
    assert labels(dataset) == {"a": ["cat", "dog"], "b": [], "photos/c": ["dog"]}
    assert [r.labels for r in dataset.records] == [(0, 1), (), (1,)]
    assert all(r.path.is_file() for r in dataset.records)


def test_names_of_several_words(csv_file):
    piped = csv_file("image,labels\na.jpg,traffic light|bus\nb.jpg,traffic light\n")
    assert load_dataset(piped).classes == ("bus", "traffic light")
    single = csv_file("image,labels\na.jpg,traffic light\nb.jpg,bus\n")
    dataset = load_dataset(single, classes=["traffic light", "bus"])
    assert labels(dataset) == {"a": ["traffic light"], "b": ["bus"]}


def test_given_classes_keep_their_order(csv_file):
    dataset = load_dataset(csv_file("image,labels\na.jpg,cat\n"), classes=["dog", "cow", "cat"])
    assert dataset.records[0].labels == (2,)


def test_split(csv_file):
    path = csv_file("image,labels,split\na.jpg,cat,train\nb.jpg,dog,val\n")
    dataset = load_dataset(path, split="val")
    assert dataset.classes == ("cat", "dog")  # those of the whole file
    assert labels(dataset) == {"b": ["dog"]}
    assert len(load_dataset(path)) == 2
    with pytest.raises(DatasetError, match=r"no split 'trian' .did you mean 'train'"):
        load_dataset(path, split="trian")


@pytest.mark.parametrize("parts", [[1, 2, None], ["1", "2", None]])
def test_split_of_a_parquet_file(csv_file, tmp_path, parts):
    csv_file("")
    images = ["a.jpg", "b.jpg", "photos/c.png"]
    table = pa.table({"image": images, "labels": ["cat", "dog", ""], "split": parts})
    pq.write_table(table, tmp_path / "list.parquet")
    assert labels(load_dataset(tmp_path / "list.parquet", split="1")) == {"a": ["cat"]}
    with pytest.raises(DatasetError, match=r"no split '3' .known: 1, 2\)"):
        load_dataset(tmp_path / "list.parquet", split="3")


HEADER = "image,labels\n"
BAD = {
    "empty": ("", r"list\.csv: the file is empty"),
    "no rows": (HEADER, "names no images"),
    "no header": ("a.jpg,cat\n", r"list\.csv:1: expected one column 'image', got 'a\.jpg', 'cat'"),
    "column missing": ("image,tags\na.jpg,cat\n", r"list\.csv:1: expected one column 'labels'"),
    "column twice": ("image,labels,image\n", r"list\.csv:1: expected one column 'image'"),
    "semicolons": ("image;labels\na.jpg;cat\n", r"list\.csv:1: expected one column 'image'"),
    "too many": (HEADER + "a.jpg,cat,dog\n", r"list\.csv:2: expected 2 columns, got 3"),
    "too few": (HEADER + "\na.jpg\n", r"list\.csv:3: expected 2 columns, got 1"),
    "open quote": (HEADER + 'a.jpg,"cat\n', r"list\.csv:2: broken CSV"),
    "not UTF-8": (b"image,labels\na.jpg,\xff\n", "not UTF-8"),
    "no image": (HEADER + ",cat\n", r"list\.csv:2: expected the path"),
    "climbs": (HEADER + "../a.jpg,cat\n", r"list\.csv:2: .* leaves its folder"),
    "absolute": (HEADER + "/etc/passwd,cat\n", r"list\.csv:2: .* is absolute"),
    "twice": (HEADER + "a.jpg,cat\n./a.jpg,dog\n", r"csv:3: 'a' is there already, in .*csv:2"),
    "missing": (HEADER + "a.jpg,cat\nz.jpg,cat\n", r"missing image files: .*csv:3: .*z\.jpg"),
    "a folder": (HEADER + "photos,cat\n", "missing image files"),
    "commas": (HEADER + 'a.jpg,"dog, person"\n', r"list\.csv: label 'dog,': expected several"),
    "both separators": (
        HEADER + "a.jpg,dog|person\nb.jpg,dog person\n",
        r"list\.csv: label 'dog person': expected labels separated by \| throughout",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_csv(csv_file, case):
    text, message = BAD[case]
    with pytest.raises(DatasetError, match=message):
        load_dataset(csv_file(text))


def test_many_missing_files_are_counted(csv_file):
    rows = "".join(f"z{number}.jpg,cat\n" for number in range(10))
    with pytest.raises(DatasetError, match=r"z0.*z1.*z2.* and 7 more"):
        load_dataset(csv_file(HEADER + rows))


def test_unknown_label(csv_file):
    path = csv_file(HEADER + "a.jpg,cat\nb.jpg,hoarse\n")
    with pytest.raises(DatasetError, match=r"csv:3: unknown label 'hoarse' .did you mean 'horse'"):
        load_dataset(path, classes=["cat", "horse"])


@settings(max_examples=100)
@given(st.binary(max_size=60).map(lambda tail: b"image,labels\n" + tail) | st.binary(max_size=60))
def test_any_bytes_as_csv(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("csv") / "list.csv"
    path.write_bytes(data)
    with pytest.raises(DatasetError):  # there is no image at all beside it
        load_dataset(path)


@pytest.mark.parametrize("listed", [True, False])
def test_parquet(csv_file, tmp_path, listed):
    csv_file("")
    tags = [["dog", "traffic light"], None, []] if listed else ["dog|traffic light", "", None]
    table = pa.table({"image": ["a.jpg", "b.jpg", "photos/c.png"], "labels": tags, "x": [1, 2, 3]})
    pq.write_table(table, tmp_path / "list.parquet")
    dataset = load_dataset(tmp_path / "list.parquet")
    assert labels(dataset) == {"a": ["dog", "traffic light"], "b": [], "photos/c": []}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": ["a.jpg"]}, "expected one column 'labels', got 'image'"),
        ({"image": [1], "labels": ["cat"]}, "row 0: image: expected a path, got 1"),
        ({"image": ["a.jpg"], "labels": [3]}, "row 0: labels: expected a string or strings"),
        ({"image": ["a.jpg"], "labels": [[None]]}, "row 0: labels: expected a string or strings"),
        ({"image": ["../a.jpg"], "labels": ["cat"]}, "row 0: .* leaves its folder"),
        ({"image": ["z.jpg"], "labels": ["cat"]}, "missing image files: .*row 0"),
    ],
)
def test_bad_parquet(csv_file, tmp_path, columns, message):
    csv_file("")
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    with pytest.raises(DatasetError, match=message):
        load_dataset(tmp_path / "list.parquet")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(20) + b"PAR1", b"image,labels\n"])
def test_damaged_parquet(tmp_path, data):
    (tmp_path / "list.parquet").write_bytes(data)
    with pytest.raises(DatasetError, match="not a readable Parquet file"):
        load_dataset(tmp_path / "list.parquet")


def test_real_list(shared):
    folder = shared / "data/voc12-mini"
    dataset = load_dataset(folder / "train.csv")
    assert (len(dataset), dataset.classes) == (1895, VOC_CLASSES)
    assert dataset.records[0].name == "VOC2012/JPEGImages/2007_000032"
    assert labels(dataset)["VOC2012/JPEGImages/2007_000032"] == ["aeroplane", "person"]
