import base64
import json
import os
import subprocess
import sys
import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energylens.core.errors import BadInput
from energylens.sources.document import Document
from energylens.sources.text import load_text, stream_text, text_sha256


def names(corpus):
    return [document.name for document in corpus.documents]


def test_a_file_is_one_document(tmp_path):
    path = tmp_path / "é.txt"
    path.write_bytes("\ufeffline\r\nnext – ü".encode())
    corpus = load_text([path])
    assert corpus.documents == (Document(name="é.txt", text="line\nnext – ü", kind="text"),)
    assert corpus.name == "é.txt"


def test_a_folder_is_its_files_in_order_without_hidden_ones(tmp_path):
    for name in ("b.md", "a.py", "sub/b.md", ".hidden", ".git/config", "sub/.x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    corpus = load_text([tmp_path])
    assert names(corpus) == ["a.py", "b.md", "sub/b.md"]
    assert [document.kind for document in corpus.documents] == ["code", "text", "text"]


def test_subfolders_that_divide_a_folder_name_the_kinds(tmp_path):
    for name in ("letters/a.txt", "letters/old/b.py", "tables/c.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    assert [d.kind for d in load_text([tmp_path]).documents] == ["letters", "letters", "tables"]
    two = load_text([tmp_path, tmp_path / "tables"])
    assert [d.kind for d in two.documents] == ["text", "code", "text", "text"]
    (tmp_path / "beside.txt").write_text("not in a subfolder")
    assert {d.kind for d in load_text([tmp_path]).documents} == {"text", "code"}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"text": ["one", None]}, ["t.parquet 0", "t.parquet 1"]),
        ({"id": ["x", "y"], "text": ["one", None], "n": [1, 2]}, ["t.parquet x", "t.parquet y"]),
    ],
)
def test_a_row_of_parquet_is_a_document(tmp_path, columns, expected):
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    corpus = load_text([tmp_path / "t.parquet"])
    assert names(corpus) == expected
    assert [document.text for document in corpus.documents] == ["one", ""]


def test_a_line_of_jsonl_is_a_document(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(
        '{"text": "a\\nb", "name": "first"}\n\n{"text": "c\u2028d"}\n', encoding="utf-8"
    )
    corpus = load_text([path])
    assert names(corpus) == ["t.jsonl first", "t.jsonl 3"]
    assert [document.text for document in corpus.documents] == ["a\nb", "c\u2028d"]


def test_hash_follows_texts_names_and_their_borders(tmp_path):
    def hashed(*texts):
        path = tmp_path / "t.jsonl"
        path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
        return load_text([path]).sha256

    assert hashed("ab", "c") == hashed("ab", "c")
    assert len({hashed("ab", "c"), hashed("a", "bc"), hashed("abc"), hashed("ab", "d")}) == 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.txt", None, r"absent\.txt does not exist"),
        ("empty.txt", b" \n", r"empty\.txt holds no text"),
        ("latin.txt", "caf\u00e9".encode("latin-1"), r"not UTF-8 text \(byte 3\)"),
        ("nul.txt", b"a\0b", "is not text"),
        (
            "x.jsonl",
            b'{"text": "a"}\n{"txt": 1}',
            "line 2 has no field 'text': it has txt",
        ),
        ("x.jsonl", b"[1]", "line 1 has no field 'text': it has list"),
        ("x.jsonl", b"{", "line 1 is not JSON"),
        ("x.jsonl", b'{"text": 3}', "line 1: 'text' is of type int"),
        ("x.parquet", b"PAR1....", "cannot be read as Parquet"),
    ],
)
def test_bad_files_are_one_sentence(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message) as error:
        load_text([tmp_path / name])
    assert "\n" not in str(error.value)


def test_parquet_without_text_lists_its_columns(tmp_path):
    pq.write_table(pa.table({"body": ["x"], "id": [1]}), tmp_path / "t.parquet")
    with pytest.raises(BadInput, match="no column 'text': its columns are body, id"):
        load_text([tmp_path / "t.parquet"])


def test_parquet_with_numbers_for_text_is_refused(tmp_path):
    pq.write_table(pa.table({"text": [1]}), tmp_path / "t.parquet")
    with pytest.raises(BadInput, match="row 0: 'text' is of type int"):
        load_text([tmp_path / "t.parquet"])


def test_nothing_and_empty_folders_are_refused(tmp_path):
    with pytest.raises(BadInput, match="no text was given"):
        load_text([])
    with pytest.raises(BadInput, match="has no files"):
        load_text([tmp_path])
    with pytest.raises(BadInput, match="give a list of paths"):
        load_text("README.md")


# ---- one document at a time


def test_a_stream_has_the_documents_of_the_corpus(tmp_path):
    folder = tmp_path / "t"
    for name, text in (("a/x.txt", "one"), ("b/y.py", "two"), ("b/z.jsonl", '{"text": "three"}')):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    pq.write_table(pa.table({"text": [f"row {i}" for i in range(700)]}), folder / "b/p.parquet")
    corpus = load_text([folder])
    assert len(corpus.documents) == 703
    assert tuple(stream_text([folder])) == corpus.documents
    assert text_sha256(stream_text([folder])) == corpus.sha256
    assert tuple(stream_text("default")) == load_text("default").documents


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    lines = tmp_path / "t.jsonl"
    lines.write_text('{"text": "a"}\n{"text": "b"}\nno JSON\n')
    stream = stream_text([lines, tmp_path / "t.jsonl"])
    assert [next(stream).text, next(stream).text] == ["a", "b"]
    with pytest.raises(BadInput, match="line 3 is not JSON"):
        next(stream)
    with pytest.raises(BadInput, match="does not exist"):
        stream_text([tmp_path / "absent"])


def test_a_stream_of_lines_holds_one_of_them(tmp_path):
    """Lines of 100 kB in a file of 30 MB: what Python holds at most is a few of them."""
    path = tmp_path / "t.jsonl"
    with path.open("w") as file:
        for _ in range(300):
            file.write(json.dumps({"text": "x" * 100_000}) + "\n")
    tracemalloc.start()
    count = sum(1 for _ in stream_text([path]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 300 and peak < 2_000_000


@pytest.mark.parametrize("longest", [5, 7, 16, 40, 1000])
@pytest.mark.parametrize("text", ["\ufeffone\ntwo – ü\r\n𝒳𝒴𝒵 and more\nlast", "𝒳ü–a" * 12])
def test_a_long_file_comes_in_pieces_that_lose_nothing(tmp_path, text, longest):
    path = tmp_path / "t.txt"
    path.write_bytes(text.encode())
    pieces = list(stream_text([path], longest=longest))
    assert "".join(piece.text for piece in pieces).replace("\r\n", "\n") == text.lstrip(
        "\ufeff"
    ).replace("\r\n", "\n")
    assert all(len(piece.text.encode()) <= longest for piece in pieces)
    if longest < len(text.encode()):
        assert len(pieces) > 1 and pieces[0].name.startswith("t.txt bytes 0–")
    if longest == 40 and "\n" in text:
        assert pieces[0].text.endswith("\n")


def test_an_error_in_a_later_piece_names_its_byte(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"ten bytes\n" * 5 + b"\xff")
    with pytest.raises(BadInput, match=r"not UTF-8 text \(byte 50\)"):
        list(stream_text([path], longest=20))
    with pytest.raises(BadInput, match="pieces of 4 bytes"):
        stream_text([path], longest=4)
    lines = tmp_path / "t.jsonl"
    lines.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(BadInput, match=r"not UTF-8 text \(byte 24\)"):
        list(stream_text([lines]))


def test_one_row_group_larger_than_the_memory_it_is_read_in(tmp_path):
    """90 MB in one row group: what Arrow holds at once is a fraction of that."""
    path, rows = tmp_path / "big.parquet", 6000
    texts = [base64.b64encode(os.urandom(11_250)).decode() for _ in range(rows)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=10**9, use_dictionary=False)
    assert pq.ParquetFile(path).num_row_groups == 1 and path.stat().st_size > 60e6
    code = (
        "import sys, pyarrow\n"
        "from energylens.sources.text import stream_text\n"
        "found = sum(1 for _ in stream_text([sys.argv[1]]))\n"
        "print(found, pyarrow.default_memory_pool().max_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    found, held = map(int, done.stdout.split())
    assert found == rows and held < 50e6, f"{held / 1e6:.0f} MB held at once"
