"""Files of others: read within limits, or refused with a reason."""

import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tuner.documents import LIMITS, lines_of, parse_json, parse_yaml, read_bytes, read_text
from tuner.errors import DocumentError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def refusal(text: str) -> str:
    with pytest.raises(DocumentError) as caught:
        parse_yaml(text)
    return str(caught.value)


class TestYaml:
    @given(JSON)
    def test_what_is_written_is_read(self, value: Any) -> None:
        assert parse_yaml(yaml.safe_dump(value)).content == value

    def test_aliases_and_merges_are_followed(self) -> None:
        text = "a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\nd: [*a, *a]\n"
        content = parse_yaml(text).content
        assert content["b"] == {"x": 1}
        assert content["c"] == {"x": 1, "y": 2}
        assert content["d"] == [{"x": 1}, {"x": 1}]

    def test_nothing_is_none(self) -> None:
        assert parse_yaml("# nothing\n").content is None

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("a: [", "not YAML"),
            ("a: 1\na: 2", "duplicate key 'a'"),
            ("{a: 1, 'a': 2}", "duplicate key 'a'"),
            ("--- 1\n--- 2", "not YAML"),
            ("a: 2020-01-01", "a date is not allowed here; put text in quotes"),
            ("a: 2020-13-45", "a date is not allowed"),
            ("a: !!binary aGk=", "binary data is not allowed"),
            ("!!set {a}", "a set is not allowed"),
            ("!!omap [a: 1]", "an ordered mapping is not allowed"),
            ("!!pairs [a: 1]", "a list of pairs is not allowed"),
            ("!!python/object:os.system x", "could not determine a constructor"),
            ("{[1]: 2}", "found unhashable key"),
            ("&a [*a]", "an alias refers to a node that contains it"),
            ("&a {b: {c: *a}}", "an alias refers to a node that contains it"),
            ("*a", "undefined alias"),
            ("a: " + "9" * 5000, "a number has too many digits"),
            ("a: 0x" + "f" * 5000, "a number has too many digits"),
            ("a: 1" + ":59" * 5000, "a number has too many digits"),
            ("a: 1" + ":59" * 5000 + ".5", "a number has too many digits"),
            ("!!int x", "not YAML"),
            ("!!int ''", "not YAML"),
            ("!!float ''", "not YAML"),
            ("!!bool x", "not YAML"),
            ("\0", "not YAML"),
            ("\ud800", "not YAML"),
        ],
    )
    def test_what_is_wrong_is_said(self, text: str, words: str) -> None:
        assert words in refusal(text)

    def test_the_line_is_known(self) -> None:
        with pytest.raises(DocumentError) as caught:
            parse_yaml("a: 1\nb: [\n")
        assert caught.value.place == ":3"

    @pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
    def test_deep_nesting_is_refused(self, opening: str) -> None:
        assert "nested more than 64 levels" in refusal(opening * 100_000)

    def test_as_deep_as_the_limit_is_read(self) -> None:
        depth = LIMITS.depth
        assert parse_yaml("[" * depth + "]" * depth).content
        assert "nested more than" in refusal("[" * (depth + 1) + "]" * (depth + 1))

    def test_aliases_count_for_the_depth(self) -> None:
        chain = "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, LIMITS.depth))
        assert "nested more than" in refusal("a0: &a0 [1]\n" + chain)

    @pytest.mark.parametrize("leaf", ["x", "x" * 2000, "{a: 1}"])
    def test_what_aliases_repeat_is_bounded(self, leaf: str) -> None:
        laughs = f"a0: &a0 [{leaf}, {leaf}]\n"
        laughs += "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
        assert "with all aliases expanded" in refusal(laughs)

    def test_merges_are_bounded(self) -> None:
        merged = "a0: &a0 {x: 1}\n"
        merged += "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))
        assert "with all aliases expanded" in refusal(merged)

    def test_too_many_values_are_refused(self) -> None:
        assert "it has more than" in refusal("[" + "1," * 100_000 + "]")


class TestJson:
    @pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"1" * 5000, b"[1] 2", "\ud800"])
    def test_what_is_none_is_refused(self, content: bytes | str) -> None:
        with pytest.raises(DocumentError, match="not JSON"):
            parse_json(content)

    @pytest.mark.parametrize("depth", [LIMITS.depth + 2, 900, 100_000])
    @pytest.mark.parametrize("opening", ["[", '{"a":'])
    def test_deep_nesting_is_refused(self, depth: int, opening: str) -> None:
        closing = "]" if opening == "[" else "}"
        with pytest.raises(DocumentError, match="nested more than"):
            parse_json(opening * depth + "1" + closing * depth)

    def test_what_is_one_is_read(self) -> None:
        depth = LIMITS.depth
        assert parse_json(b'{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}
        assert parse_json("[" * depth + "]" * depth)


class TestFiles:
    def test_a_text_has_line_feeds(self, tmp_path: Path) -> None:
        file = tmp_path / "text"
        file.write_bytes(b"a\r\nb\rc\n")
        assert read_text(file) == "a\nb\nc\n"

    @pytest.mark.parametrize(
        "name", ["nowhere", "a" * 300, "a\0b", "\ud800", ".", "nowhere/there", ""]
    )
    def test_what_cannot_be_read_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(DocumentError):
            read_bytes(tmp_path / name)

    def test_other_encodings_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "latin").write_bytes("für".encode("latin-1"))
        with pytest.raises(DocumentError, match="it is not UTF-8 text"):
            read_text(tmp_path / "latin")

    def test_what_is_too_large_is_refused_and_hardly_read(self) -> None:
        with pytest.raises(DocumentError, match="larger than 1,000 bytes"):
            read_bytes(Path("/dev/zero"), 1000)

    def test_a_pipe_is_read(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_text, args=("a: 1\n",))
        writer.start()
        try:
            assert read_text(pipe) == "a: 1\n"
        finally:
            writer.join()

    def test_lines_keep_their_ends_and_have_a_limit(self) -> None:
        assert list(lines_of(io.BytesIO(b"a\n\nbc"), 2)) == [b"a\n", b"\n", b"bc"]
        with pytest.raises(DocumentError, match="line 2 is longer than 3"):
            list(lines_of(io.BytesIO(b"a\nbcde\n"), 3))
