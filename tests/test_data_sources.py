"""A user's data as CSV and Parquet: converted once to JSON Lines, and read like them."""

import csv
import datetime
import decimal
import json
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Finished, rows_of
from secondnature.answers import KINDS
from secondnature.tasks.columns import Columns
from secondnature.tasks.data import Rows, read_lines
from secondnature.tasks.sources import as_lines
from secondnature.types import Message, Row, UserError

Cli = Callable[..., Finished]
Recipes = Callable[..., Path]


def read(path: Path, columns: Columns | None = None, say: Callable[[str], None] = lambda line: None) -> Rows:
    columns = columns or Columns()
    return read_lines(as_lines(path, columns, path.parent / "cache", say), columns, KINDS["yes_no"])


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(path: Path, columns: dict[str, Any]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    write_table(pyarrow.table(columns), path, row_group_size=2)
    return path


def texts(rows: Rows) -> list[str]:
    return [row.example.text for row in rows]


def essence(row: Row) -> tuple[Any, ...]:
    return row.example, row.label, row.group, row.slices


def test_the_same_rows_come_from_json_lines_csv_tsv_and_parquet(tmp_path: Path) -> None:
    rows = [{**row, "prompt": f'{row["prompt"]}\n"São", she\tsaid'} for row in rows_of("x", 7)]
    columns = Columns(slices=["kind"], fields=["group"])
    paths = [written(tmp_path / "x.jsonl", "".join(json.dumps(row) + "\n" for row in rows))]
    for ending, delimiter in ((".csv", ","), (".TSV", "\t")):
        paths.append(tmp_path / f"x{ending}")
        with paths[-1].open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    paths.append(parquet(tmp_path / "x.parquet", {name: [row[name] for row in rows] for name in rows[0]}))
    expected, *others = [[essence(row) for row in read(path, columns)] for path in paths]
    assert others == [expected] * 3
    assert [read(path, columns)[3].where for path in paths] == [
        f"{paths[0]}, row 4",
        f"{paths[1]}, record 4",
        f"{paths[2]}, record 4",
        f"{paths[3]}, row 4",
    ]


def test_csv_as_spreadsheets_write_it_is_read(tmp_path: Path) -> None:
    path = written(
        tmp_path / "x.csv",
        b'\xef\xbb\xbf,prompt,answer,group,id\r\n0,"a\r\nb ""c""",yes,,\r\n\r\n1,S\xc3\xa3o?,,g,7\r\n2,"x, y", ,g,8',
    )
    first, second, third = read(path)
    assert first.example.text == 'a\r\nb "c"'
    assert (first.label, first.group, first.example.id) == ("yes", read(path)[0].group, first.group)
    assert (second.example.text, second.label, second.group, second.example.id) == ("São?", None, "g", "7")
    assert third.label is None
    assert third.where == f"{path}, record 3", "neither line ends in quotes nor blank lines count"


def test_a_cell_may_hold_a_conversation(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Is it?"}]
    path = tmp_path / "x.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["prompt"], [json.dumps(turns)], ["[1] is it?"]])
    conversation, text = read(path)
    assert conversation.example.messages == (Message("system", "Be brief."), Message("user", "Is it?"))
    assert text.example.text == "[1] is it?"


def test_a_text_of_json_lines_or_parquet_is_a_text_however_it_begins(tmp_path: Path) -> None:
    assert texts(read(written(tmp_path / "x.jsonl", json.dumps({"prompt": "[{"})))) == ["[{"]
    assert texts(read(parquet(tmp_path / "x.parquet", {"prompt": ["[{"]}))) == ["[{"]


def test_a_cell_of_ten_megabytes_is_read(tmp_path: Path) -> None:
    [row] = read(written(tmp_path / "x.csv", "prompt,answer\n" + "x" * 10_000_000 + ",yes\n"))
    assert len(row.example.text) == 10_000_000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["x.csv: empty", "first line must name the columns"]),
        (b"\n\n", ["x.csv: empty"]),
        (b"prompt,answer\n", ["x.csv: no rows"]),
        (b"prompt,answer\n\n\n", ["x.csv: no rows"]),
        (b"Is it?,yes\n", ["x.csv: no column 'prompt'", "there are: Is it?, yes"]),
        (b"promt,answer\na,yes\n", ["did you mean 'promt'"]),
        (b"prompt,answer,prompt\na,yes,b\n", ["header", "'prompt' is there twice"]),
        (b"prompt,answer\na,yes\nb\n", ["record 2", "too few cells: 1, where the header has 2"]),
        (b'prompt,answer\n"a\nb",yes\n\na,b,yes\n', ["record 2", "too many cells: 3"]),
        (b'prompt,answer\na,yes\n"b,yes\nc,no\n', ["record 2 (from line 3)", "never closed"]),
        (b'prompt,answer\n"a" b,yes\n', ["record 1 (from line 2)", "broken"]),
        (b'"prompt,answer\n', ["header (from line 1)", "never closed"]),
        ("prompt,answer\na,yes\nSão?,no\n".encode("latin-1"), ["line 3", "not UTF-8"]),
        ("prompt,answer\na,yes\n".encode("utf-16"), ["line 1", "UTF-8"]),
        ("prompt,answer\na,yes\n".encode("utf-16-le"), ["line 1", "NUL byte", "UTF-8"]),
        (b"prompt,answer\na,yes\nb\0,no\n", ["line 3", "NUL byte"]),
        (b"prompt,answer\ra,yes\rb,no\r", ["header", "broken"]),
        (b"prompt,answer\na,yes\n ,no\n", ["record 2", "prompt is empty"]),
        (b"prompt,answer\na,perhaps\n", ["record 1", "'perhaps'", "yes_no"]),
        (b"prompt,answer,id\na,yes,1\nb,no,1\n", ["record 2", "'1'", "already", "record 1"]),
        (b'prompt\n"[{""role"": ""user""}]"\n', ["record 1", "role and a content"]),
        (b"prompt\n[{'role': 'user'}]\n", ["record 1", "list of messages", "broken JSON", "JSON Lines"]),
        (b"prompt\n" + b"[{" * 100_000 + b"\n", ["record 1", "broken JSON"]),
    ],
)
def test_a_bad_csv_is_named_with_its_record(content: bytes, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read(written(tmp_path / "x.csv", content))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "x.csv"))
    for word in words:
        assert word in str(caught.value)
    assert not list(tmp_path.rglob("*.partial"))


def test_parquet_columns_of_any_type_are_texts(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "x.parquet",
        {
            "prompt": [b"a", "São?".encode(), b"c"],
            "answer": ["yes", None, ""],
            "id": [1, 2, 3],
            "group": [datetime.datetime(2024, 7, 9, 12, 30), None, datetime.datetime(2024, 7, 9)],
            "share": [0.5, float("nan"), 2.0],
            "price": [decimal.Decimal("1.50"), None, decimal.Decimal("2.00")],
            "choices": [["Lima", "Quito"], [], None],
            "nested": [{"n": 1, "text": ["x", "y"]}, None, {"n": 2, "text": []}],
            "image": [b"\xff\xd8", None, b"\x00"],
        },
    )
    columns = Columns(fields=["share", "price", "choices", "nested"])
    first, second, third = read(path, columns)
    assert [row.example.text for row in (first, second, third)] == ["a", "São?", "c"]
    assert [row.label for row in (first, second, third)] == ["yes", None, None]
    assert (first.example.id, first.group) == ("1", "2024-07-09T12:30:00")
    assert second.group not in ("", "None")
    assert dict(first.example.fields) == {
        "share": "0.5",
        "price": "1.50",
        "choices": "A) Lima\nB) Quito",
        "nested": '{"n": 1, "text": ["x", "y"]}',
    }
    assert dict(second.example.fields) == {"share": "", "price": "", "choices": "", "nested": ""}
    with pytest.raises(UserError, match=r"x\.parquet, row 1: the column 'image' holds bytes that are no UTF-8 text"):
        read(path, Columns(fields=["image"]))


def test_rows_of_all_row_groups_and_batches_are_read(tmp_path: Path) -> None:
    prompts = [f"p{i}" for i in range(700)]
    assert texts(read(parquet(tmp_path / "x.parquet", {"prompt": prompts}))) == prompts


@pytest.mark.parametrize("content", [b"", b"PAR1", b"prompt,answer\na,yes\n", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_what_is_no_parquet_is_named(content: bytes, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(UserError, match=r"x\.parquet: not a Parquet file"):
        read(written(tmp_path / "x.parquet", content))


def test_a_parquet_that_is_damaged_inside_is_named_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", {"prompt": [f"{i * 7919 % 1000}?" for i in range(1000)]})
    damaged = bytearray(path.read_bytes())
    damaged[4:400] = b"\xff" * 396
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=r"x\.parquet: broken after row 0"):
        read(path)
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_a_parquet_with_no_rows_or_without_the_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.parquet: no rows"):
        read(parquet(tmp_path / "x.parquet", {"prompt": []}))
    with pytest.raises(UserError, match=r"x\.parquet: no column 'prompt' \(did you mean 'promt'\?\)"):
        read(parquet(tmp_path / "x.parquet", {"promt": ["a"]}))


def test_a_file_is_converted_once_and_again_when_it_or_the_columns_change(tmp_path: Path) -> None:
    said: list[str] = []
    path = written(tmp_path / "x.csv", "prompt,topic\na,x\n")
    assert texts(read(path, say=said.append)) == texts(read(path, say=said.append)) == ["a"]
    assert said == [f"{path}: converting to JSON Lines, once"]
    [converted] = (tmp_path / "cache").rglob("*.jsonl")
    assert "topic" not in converted.read_text(), "what is not read is not copied"
    held = read(path, say=said.append)
    written(path, "prompt,topic\nb,x\n")
    assert texts(read(path, say=said.append)) == ["b"]
    assert texts(held) == ["a"], "rows in use stay what they were"
    assert read(path, Columns(fields=["topic"]), said.append)[0].example["topic"] == "x"
    assert len(said) == 3


def test_a_converted_file_that_is_deleted_in_use_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    rows = read(written(tmp_path / "x.csv", "prompt\na\n"))
    for file in (tmp_path / "cache").rglob("*.jsonl"):
        file.unlink()
    with pytest.raises(UserError, match="run the same command again"):
        list(rows)


def test_a_file_that_changes_while_it_is_converted_is_not_kept(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "prompt\na\n")
    with pytest.raises(UserError, match=r"x\.csv: changed while it was being read"):
        read(path, say=lambda line: path.write_text("prompt\nb\n") and None)
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
    assert texts(read(path)) == ["b"]


def test_two_at_once_convert_the_same_file_without_harm(tmp_path: Path) -> None:
    path = written(tmp_path / "x.csv", "prompt\n" + "".join(f"p{i}\n" for i in range(2000)))
    both = threading.Barrier(2)
    found: list[list[str]] = []

    def convert() -> None:
        found.append(texts(read(path, say=lambda line: both.wait(20) and None)))

    threads = [threading.Thread(target=convert) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[f"p{i}" for i in range(2000)]] * 2
    assert len([file for file in (tmp_path / "cache").rglob("*") if file.is_file()]) == 1


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_memory_does_not_grow_with_the_rows(ending: str, tmp_path: Path) -> None:
    prompts = [f"{i} " * 500 for i in range(4000)]
    path = tmp_path / f"x{ending}"
    if ending == ".csv":
        written(path, "prompt\n" + "".join(prompt + "\n" for prompt in prompts))
    else:
        parquet(path, {"prompt": prompts})
    tracemalloc.start()
    rows = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == 4000
    assert peak < 3_000_000 < 0.5 * sum(map(len, prompts))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.csv", ["there is no file", "none.csv"]),
        ("x.xlsx", ["x.xlsx ends in none of .jsonl, .json, .csv, .tsv, .parquet"]),
        ("openai/gsm8k", ["there is no file", "{path: openai/gsm8k, split: train}"]),
        ("gsm8k", ["there is no file", "{path: gsm8k, split: train}"]),
        ("folder", ["there is no file", "folder, split: train}"]),
    ],
)
def test_what_is_no_data_file_is_refused(
    name: str, words: list[str], recipe: Recipes, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    (tmp_path / "folder").mkdir()
    done = cli("distill", recipe(data={"train": name}), "--out", tmp_path / "run", "--quiet")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert all(word in line for word in words), line


def test_a_run_on_csv_is_that_on_the_same_json_lines(
    recipe: Recipes, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECONDNATURE_CACHE", str(tmp_path / "cache"))
    sampling = {"n": 2, "max_tokens": 16}
    assert cli("sample", tmp_path / "a", "--recipe", recipe(sampling=sampling), "--quiet").returncode == 0
    with (tmp_path / "train.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "prompt", "answer", "group", "kind"])
        writer.writeheader()
        writer.writerows(rows_of("train", 12))
    data = {"train": "train.csv", "dev": "test.jsonl", "test": "test.jsonl", "slices": ["kind"]}
    file = recipe(data=data, sampling=sampling)
    assert cli("sample", tmp_path / "b", "--recipe", file, "--quiet").returncode == 0
    for run in ("a", "b"):
        assert cli("verify", tmp_path / run, "--quiet").returncode == 0
    curated = [(tmp_path / run / "curated.jsonl").read_text() for run in ("a", "b")]
    assert curated[0] == curated[1] != ""
    written(tmp_path / "train.csv", "id,prompt,answer,group,kind\n1,a,yes,b\n")
    refused = cli("sample", tmp_path / "c", "--recipe", file, "--quiet")
    assert refused.returncode == 2
    [line] = refused.stderr.splitlines()
    assert line.endswith("train.csv, record 1: too few cells: 4, where the header has 5")
