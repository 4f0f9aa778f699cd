"""What all readers share."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from labelpenet.data import DatasetError
from labelpenet.data.entries import checked_classes, chosen_classes, listed_path, stem, suggestion


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected the path"),
        (".", "expected the path"),
        ("/etc/passwd", "is absolute"),
        ("C:/photos/a.jpg", "is absolute"),
        (r"C:\photos\a.jpg", "is absolute"),
        (r"\\server\a.jpg", "is absolute"),
        ("../a.jpg", "leaves its folder"),
        ("photos/../../a.jpg", "leaves its folder"),
        (r"photos\..\..\a.jpg", "leaves its folder"),
        ("a\nb.jpg", "control characters"),
        ("a\x00.jpg", "control characters"),
        ("a\udcff.jpg", "not UTF-8"),
    ],
)
def test_unsafe_paths(text, reason):
    with pytest.raises(DatasetError, match=rf"^list\.csv:7: .*{reason}"):
        listed_path(text, "list.csv:7")


@given(st.text(max_size=40) | st.text("./\\ab:C", max_size=20))
@example("a/./b//c.jpg")
@example("…/日本/\u3000写真.jpg")
def test_a_safe_path_stays_in_its_folder(tmp_path_factory, text):
    try:
        path = listed_path(text, "here")
    except DatasetError:
        return
    root = tmp_path_factory.getbasetemp().resolve()
    assert (root / path).resolve().is_relative_to(root)
    assert (root / path).resolve() != root
    str(path).encode()


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/b.jpg", "a/b"), ("b.c.JPEG", "b.c"), ("2007_000032", "2007_000032"), ("v1.5", "v1.5")],
)
def test_stem(path, name):
    assert stem(listed_path(path, "")) == name


def test_suggestion():
    assert suggestion("catt", ["cat", "dog"]) == " (did you mean 'cat'?)"
    assert suggestion("xyz", ["cat", "dog"]) == " (known: cat, dog)"
    assert suggestion("xyz", []) == ""


@pytest.mark.parametrize(
    ("classes", "error"),
    [("cat", TypeError), ([1], TypeError), (["cat", " "], ValueError), (["a", "a"], ValueError)],
)
def test_bad_classes(classes, error):
    with pytest.raises(error, match=r"^classes: "):
        checked_classes(classes)


def test_chosen_classes(tmp_path):
    declared = ("cat", "dog", "cow")
    assert chosen_classes(tmp_path, declared, None) == declared
    assert chosen_classes(tmp_path, declared, ["cow", "cat"]) == ("cow", "cat")
    more = ("ant", "cow", "dog", "cat")
    assert chosen_classes(tmp_path, declared, more) == more
    with pytest.raises(DatasetError, match=r"has no class 'dogg' .did you mean 'dog'"):
        chosen_classes(tmp_path, declared, ["cat", "dogg"])
