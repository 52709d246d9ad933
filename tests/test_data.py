"""A user's own files: how rows are read, and how they are split."""

import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from secondnature.answers import KINDS
from secondnature.tasks.columns import Columns
from secondnature.tasks.data import Rows, load_parts, read_lines
from secondnature.tasks.sources import Lines
from secondnature.types import Message, Row, Splits, UserError

Write = Callable[[str, Iterable[Mapping[str, Any]]], Path]
YES_NO = KINDS["yes_no"]


def read_file(path: Path, columns: Columns) -> Rows:
    return read_lines(Lines(path, str(path)), columns, YES_NO)


def load_files(files: Mapping[str, Path], say: Callable[[str], None] = lambda line: None) -> Splits:
    return load_parts({part: Lines(path, str(path)) for part, path in files.items()}, Columns(), YES_NO, say)


def groups(rows: Iterable[Row]) -> set[str]:
    return {row.group for row in rows}


def test_a_prompt_is_a_text_or_messages(jsonl: Write) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it?"}]
    text, messages = read_file(jsonl("x.jsonl", [{"prompt": "Is it?"}, {"prompt": turns}]), Columns())
    assert text.example.messages == (Message("user", "Is it?"),)
    assert messages.example.messages == (Message("system", "Be brief."), Message("user", "Is it?"))
    assert messages.example.text == "Is it?"


def test_columns_may_have_other_names_and_the_rest_is_ignored(jsonl: Write) -> None:
    row = {"q": "Is it?", "a": True, "doc": 7, "key": 12, "lang": "de", "topic": "x", "prompt": ["not this one"]}
    columns = Columns("q", "a", "doc", "key", ["lang"], ["topic"])
    [read] = read_file(jsonl("x.jsonl", [row]), columns)
    assert read.example.id == "12"
    assert read.example.fields == {"topic": "x"}
    assert (read.label, read.group, read.slices) == ("yes", "7", ("lang=de",))
    assert read.where.endswith("x.jsonl, row 1")


def test_an_id_is_the_digest_of_the_prompt_and_copies_are_numbered(jsonl: Write) -> None:
    rows = [{"prompt": p} for p in ("a", "b", "a", "a")]
    ids = [row.example.id for row in read_file(jsonl("x.jsonl", rows), Columns())]
    assert ids[2:] == [f"{ids[0]}-2", f"{ids[0]}-3"]
    assert len(set(ids)) == 4
    assert ids[1] == read_file(jsonl("y.jsonl", rows[1:2]), Columns())[0].example.id


def test_without_a_group_column_equal_prompts_are_one_group(jsonl: Write) -> None:
    one, two, other = read_file(jsonl("x.jsonl", [{"prompt": p} for p in ("a", "a", "b")]), Columns())
    assert one.group == two.group != other.group


def test_a_byte_order_mark_windows_line_ends_and_empty_lines_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "S\xc3\xa3o?"}\r\n\r\n{"prompt": "b"}\r\n')
    first, second = read_file(path, Columns())
    assert first.example.text == "São?"
    assert second.where.endswith("row 3"), "rows are counted as an editor counts lines"


@pytest.mark.parametrize(
    ("kind", "label", "read"), [("yes_no", False, "no"), ("number", 12.5, "12.5"), ("number", 3, "3")]
)
def test_a_label_is_read_as_a_reply_would_be(kind: str, label: object, read: str, jsonl: Write) -> None:
    path = jsonl("x.jsonl", [{"prompt": "a", "answer": label}])
    [row] = read_lines(Lines(path, str(path)), Columns(), KINDS[kind])
    assert row.label == read


def test_rows_are_read_again_whenever_they_are_asked_for_and_are_always_the_same(jsonl: Write) -> None:
    rows = [{"prompt": f"p{i % 7}", "group": f"g{i % 3}", "answer": "yes"} for i in range(20)]
    path = jsonl("x.jsonl", rows)
    read = read_file(path, Columns())
    eager = list(read)
    assert list(read) == eager
    assert [read[i] for i in range(-20, 20)] == [*eager, *eager]
    assert [*read[3:9], *read[::-4], *read[18:99]] == [*eager[3:9], *eager[::-4], *eager[18:99]]
    with pytest.raises(IndexError):
        read[20]
    assert len({row.example.id for row in eager}) == 20
    [copy] = [row for row in eager if row.where.endswith("row 20")]
    assert copy.example.id.endswith("-3"), "a copy keeps its number however it is reached"


def test_a_file_that_changes_while_it_is_in_use_is_an_error_and_one_that_grows_is_not(jsonl: Write) -> None:
    rows = [{"prompt": f"p{i}"} for i in range(4)]
    path = jsonl("x.jsonl", rows)
    read = read_file(path, Columns())
    with path.open("a") as file:
        file.write('{"prompt": "later"}\n')
    assert [row.example.text for row in read] == ["p0", "p1", "p2", "p3"]
    jsonl("x.jsonl", [*rows[:2], {"prompt": "q2"}, *rows[3:]])
    with pytest.raises(UserError, match=r"x\.jsonl, row 3: changed while it was in use"):
        list(read)
    path.unlink()
    with pytest.raises(UserError, match="there is no file"):
        list(read)


def test_a_file_in_memory_is_a_few_bytes_a_row_however_long_its_prompts_are(jsonl: Write) -> None:
    path = jsonl("x.jsonl", ({"prompt": f"{i} " * 500} for i in range(4000)))
    tracemalloc.start()
    read = read_file(path, Columns())
    held, peak = tracemalloc.get_traced_memory()
    assert sum(len(row.example.text) for row in read) > 8_000_000
    again = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 50 * len(read)
    assert max(peak, again) < 300 * len(read)


def test_parts_without_a_file_are_carved_from_train_by_group(jsonl: Write) -> None:
    rows = [{"prompt": f"p{i}", "group": f"g{i // 4}"} for i in range(2000)]
    said: list[str] = []
    parts = load_files({"train": jsonl("x.jsonl", rows)}, said.append)
    assert not groups(parts.train) & groups(parts.test)
    assert not groups(parts.train) & groups(parts.dev)
    assert not groups(parts.dev) & groups(parts.test)
    assert sum(map(len, (parts.train, parts.dev, parts.test))) == 2000
    assert 0.15 < len(parts.test) / 2000 < 0.25
    assert 0.05 < len(parts.dev) / 2000 < 0.15
    assert Counter(line.split()[1] for line in said) == {"test": 1, "dev": 1}


def test_a_groups_part_does_not_change_with_the_other_rows(jsonl: Write) -> None:
    rows = [{"prompt": f"p{i}", "group": f"g{i}"} for i in range(300)]

    def split(name: str, some: list[dict[str, str]]) -> Splits:
        return load_files({"train": jsonl(name, some)})

    whole, half = split("whole.jsonl", rows), split("half.jsonl", rows[::-2])
    assert groups(half.test) == groups(whole.test) & {row["group"] for row in rows[::-2]}
    assert groups(half.test)


def test_training_rows_whose_group_is_held_out_are_left_out_with_a_notice(jsonl: Write) -> None:
    said: list[str] = []
    files = {
        "train": jsonl("a.jsonl", [{"prompt": f"p{i}", "group": f"g{i % 5}"} for i in range(20)]),
        "dev": jsonl("b.jsonl", [{"prompt": "q", "group": "g0"}]),
        "test": jsonl("c.jsonl", [{"prompt": "r", "group": "g1"}]),
    }
    parts = load_files(files, said.append)
    assert groups(parts.train) == {"g2", "g3", "g4"}
    [notice] = said
    assert notice.startswith("8 training rows are left out")


def test_the_same_prompt_in_train_and_test_is_left_out_of_train(jsonl: Write) -> None:
    files = {part: jsonl(f"{part}.jsonl", [{"prompt": "same"}, {"prompt": part}]) for part in ("train", "dev", "test")}
    assert [row.example.text for row in load_files(files).train] == ["train"]


def test_nothing_left_to_train_on_is_an_error(jsonl: Write) -> None:
    files = {part: jsonl(f"{part}.jsonl", [{"prompt": "same"}]) for part in ("train", "dev", "test")}
    with pytest.raises(UserError, match="no training rows are left"):
        load_files(files)
