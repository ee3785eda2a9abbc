"""A flipped bit in any file of a run is harmless or noticed; digests say what they cover."""

import hashlib
import importlib.util
import json
import math
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import muscope
from muscope.errors import CheckpointError, RunError
from muscope.examination import EXAMINATION
from muscope.storage import checkpoint, content, gif, json_file, metrics, tables

_spec = importlib.util.spec_from_file_location(
    "damage", Path(__file__).parents[1] / "benchmarks" / "damage.py"
)
damage = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(damage)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return damage.make(tmp_path_factory.mktemp("damage"), ["figure4"])


@pytest.fixture
def kept(files):
    """The run, whose files are put back after the test."""
    before = {p: p.read_bytes() for p in files.run.path.rglob("*") if p.is_file()}
    yield files.run
    for path, data in before.items():
        path.write_bytes(data)


def flip_in_the_rows(path):
    """Flip the first bit of a table's file that its rows depend on and its metadata do not."""
    whole, about = path.read_bytes(), tables.about(path)
    for place in range(4, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        if not tables.checked(path):
            assert tables.about(path) == about
            return
    raise AssertionError(f"no bit of {path} matters")


def test_every_flipped_bit_is_harmless_or_noticed(files):
    counts = damage.flip(files, 640, seed=1, judge_every=8)
    assert set(counts) == set(files.kinds)
    for kind, found in counts.items():
        assert found["silent"] == found["crash"] == 0, kind
        assert found.total() == 80
        assert found["noticed"] > 20, kind


def test_the_benchmark_sees_what_it_should():
    def raises(error):
        raise error

    assert damage.outcome([(lambda: 1, 1)]) == "harmless"
    assert damage.outcome([(lambda: 1, 2)]) == "silent"
    assert damage.outcome([(lambda: raises(RunError("delete it")), 1)]) == "noticed"
    assert damage.outcome([(lambda: raises(UnicodeError()), 1), (lambda: 1, 1)]) == "crash"
    assert damage.outcome([(lambda: raises(RunError("delete it")), 1), (lambda: 1, 2)]) == "silent"


def columns(**values):
    return pa.table(values)


def test_a_digest_is_what_its_definition_says():
    """By hand: each part with its length before it."""
    table = pa.table(
        {"n": pa.array([258, None], pa.int64()), "s": ["yes", "yes"]},
        metadata={"k": "v", "digest": "not part of it"},
    )
    parts = [
        *(b"2 rows", b"1 entries", b"k", b"v"),
        *(b"n", b"int64 null", b"0 entries", bytes([0b01000000]), (258).to_bytes(16, "little")),
        *(b"s", b"string null", b"0 entries", b"yes", bytes(16)),
    ]
    text = b"".join(len(part).to_bytes(8, "little") + part for part in parts)
    assert content.digest(table) == hashlib.sha256(text).hexdigest()


def test_a_digest_tells_contents_apart():
    nan, double = math.nan, pa.float64()
    different = [
        columns(a=[1, 2], b=[3, 4]),
        columns(b=[3, 4], a=[1, 2]),
        columns(a=[3, 4], b=[1, 2]),
        columns(a=[1, 2]),
        columns(a=[2, 1]),
        columns(a=[1, 2, None]),
        columns(a=pa.array([1, 2], pa.int32())),
        columns(a=pa.array([1.0, 2.0], double)),
        columns(a=pa.array([1.0, 0.0], double)),
        columns(a=pa.array([1.0, -0.0], double)),
        columns(a=pa.array([1.0, nan], double)),
        columns(a=pa.array([1.0, None], double)),
        columns(a=[True, False]),
        columns(a=[True, None]),
        columns(a=["x", ""]),
        columns(a=["x", None]),
        columns(a=["", "x"]),
        columns(a=["x", "x"]),
        columns(a=["x", "x "]),
        columns(a=["xx", ""]),
        columns(a=[[1], [2]]),
        columns(a=[[1, 2], []]),
        columns(a=[[1, 2], None]),
        columns(a=[1, 2]).replace_schema_metadata({"mark": "1"}),
        columns(a=[1, 2]).replace_schema_metadata({"mark": "2"}),
        pa.table([[1, 2]], schema=pa.schema([pa.field("a", pa.int64(), metadata={"unit": "1"})])),
        pa.table([[1, 2]], schema=pa.schema([pa.field("a", pa.int64(), nullable=False)])),
    ]
    assert len({content.digest(table) for table in different}) == len(different)


def test_a_digest_does_not_depend_on_the_layout():
    words = ["b", "a", None, "b", "c"]
    table = columns(n=[1, 2, None, 4, 5], s=words, f=[0.5, None, math.nan, 1.0, 2.0])
    first, rest = table.slice(0, 2), table.slice(2)
    for same in (
        pa.concat_tables([first, rest]),
        pa.concat_tables([first, table.slice(2, 0), rest]).combine_chunks(),
        table.set_column(1, "s", table["s"].dictionary_encode()),
        table.set_column(
            1, "s", pa.DictionaryArray.from_arrays([2, 3, None, 2, 0], ["c", "-", "b", "a"])
        ),
        pa.concat_tables([table.slice(3, 2), table]).slice(2),
    ):
        assert content.digest(same) == content.digest(table)


KINDS = {
    "whole": (pa.int64(), [1, None]),
    "truth": (pa.bool_(), [True, None]),
    "word": (pa.string(), ["a", None]),
    "real32": (pa.float32(), [0.1, None]),
    "seconds": (pa.timestamp("s"), [1, None]),
    "bytes": (pa.binary(), [b"\xff", None]),
    "list": (pa.list_(pa.int64()), [[1, None], None]),
    "table": (pa.struct({"x": pa.float64()}), [{"x": 1.5}, None]),
    "category": (pa.dictionary(pa.int32(), pa.string()), ["a", None]),
    "nothing": (pa.null(), [None, None]),
}


@pytest.mark.parametrize("rows", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_any_type_come_back(tmp_path, kind, rows):
    type_, values = KINDS[kind]
    table = pa.table({"x": pa.array(values[:rows], type_)})
    tables.write(tmp_path / "t.parquet", table, {"mark": "m"})
    read = tables.read(tmp_path / "t.parquet")
    assert read.to_pylist() == table.to_pylist()
    assert tables.told(tmp_path / "t.parquet")["mark"] == "m"


def test_a_copy_is_the_same_table_or_one_of_so_many_digits(tmp_path):
    numbers = [math.pi, -1e-30, 0.0, float("nan"), float("inf"), 1e30, None]
    table = pa.table({"x": pa.array(numbers, pa.float32()), "i": pa.array(range(7), pa.int64())})
    first, same, short = (tmp_path / f"{name}.parquet" for name in ("first", "same", "short"))
    tables.write(first, table, {"agents": "3"})
    tables.copy(first, same)
    tables.copy(first, short, bits=12)
    assert tables.told(same) == tables.told(first)
    assert tables.told(short) == {**tables.told(first), "rounded_to_bits": "12"}
    was, exact, rounded = (tables.read(path)["x"].to_pylist() for path in (first, same, short))
    assert repr(exact) == repr(was)
    assert repr(rounded[2:5]) == repr(was[2:5])
    assert rounded[6] is None
    for x, y in zip(was, rounded, strict=True):
        if x and math.isfinite(x):
            assert 0 < abs(x - y) <= abs(x) * 2**-12
            fraction = math.frexp(y)[0] * 2**12
            assert fraction == int(fraction)
    assert tables.read(short)["i"].to_pylist() == list(range(7))


def test_a_table_without_a_digest_is_read(tmp_path):
    """As older versions wrote them; one that had a digest and lost it or its name is not one."""
    path, table = tmp_path / "t.parquet", columns(a=[1, 2])
    pq.write_table(table.replace_schema_metadata({"made_by": "{}"}), path)
    assert tables.read(path).to_pylist() == table.to_pylist()
    assert tables.about(path) == {"made_by": "{}"}
    made_by = json.dumps(content.FORMAT)
    for about in ({}, {"made_by": made_by}, {"made_by": made_by, "digesu": "0" * 64}):
        pq.write_table(table.replace_schema_metadata(about), path)
        with pytest.raises(RunError, match="does not match its own digest"):
            tables.read(path)


def test_a_block_of_zeros_anywhere_in_a_table_is_noticed(tmp_path):
    """As lost sectors leave; one may cut the file's metadata off, and the digest with them."""
    path = tmp_path / "t.parquet"
    table = columns(a=list(range(100)), b=[f"word {i % 7}" for i in range(100)])
    tables.write(path, table, {"mark": "m" * 300})
    whole, rows = path.read_bytes(), damage.rows(tables.read(path))
    noticed = 0
    for place in range(0, len(whole) - 512, 3):
        length = 8 + place % 505
        path.write_bytes(whole[:place] + bytes(length) + whole[place + length :])
        try:
            assert damage.rows(tables.read(path)) == rows, place
        except RunError:
            noticed += 1
    assert noticed > 300


def test_a_damaged_cell_is_made_anew(kept, capsys):
    """Where its table is to be put together, and only there."""
    path = kept.table_path("figure4")
    cell = kept.cell_path("figure4", "step-00000008-agent-001")
    whole = damage.rows(tables.read(path))
    flip_in_the_rows(cell)
    with pytest.raises(RunError, match=r"agent-001\.parquet is damaged .*; delete it"):
        tables.read(cell)
    damaged = cell.read_bytes()
    muscope.evaluate(kept, ["figure4"])
    assert cell.read_bytes() == damaged
    path.unlink()
    muscope.evaluate(kept, ["figure4"])
    assert "1 damaged cell(s) of figure4 are made anew" in capsys.readouterr().err
    assert damage.rows(tables.read(path)) == whole
    assert tables.checked(cell)


def test_a_damaged_table_is_named_and_made_anew_once_it_is_deleted(kept):
    path = kept.table_path("figure4_states")
    whole = damage.rows(tables.read(path))
    flip_in_the_rows(path)
    for stage in (muscope.judge, muscope.report):
        with pytest.raises(RunError, match=r"figure4_states\.parquet is damaged"):
            stage(kept)
    path.unlink()
    muscope.evaluate(kept, ["figure4"])
    assert damage.rows(tables.read(path)) == whole


def test_a_damaged_film_is_named(kept):
    data = bytearray(kept.film_path.read_bytes())
    data[4000] ^= 1
    kept.film_path.write_bytes(data)
    with pytest.raises(RunError, match=rf"delete it and run 'muscope film {kept.path}'"):
        muscope.report(kept)
    kept.film_path.write_bytes(b"GIF89a, of somebody else\x3b")
    assert gif.read(kept.film_path) == b"GIF89a, of somebody else\x3b"


def test_damaged_lines_of_the_log_are_counted_in_the_report(kept):
    path = kept.metrics_path
    muscope.report(kept)
    assert "damaged line" not in kept.report_path.read_text()
    whole = metrics.read(path)
    assert whole.damaged == 0
    path.write_bytes(b"\xff\x00 no text\n" + path.read_bytes()[:-40])  # The last is torn.
    assert metrics.read(path) == metrics.Log(whole.entries[:-1], 2)
    muscope.report(kept)
    assert "2 torn or damaged line(s)" in kept.report_path.read_text()


def test_a_log_is_cut_at_a_state(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert metrics.read(path) == metrics.Log([], 0)
    assert metrics.truncate(path, 3) == 0
    old = {"rounds": 1, "step": 0, "seconds": 0.5, "score": [1.0]}
    path.write_text(json.dumps(old) + "\n")  # As older versions wrote it.
    later = [{**old, "rounds": rounds, "score": [math.inf]} for rounds in (2, 3, 4)]
    for entry in later:
        metrics.append(path, entry)
    assert metrics.read(path) == metrics.Log([old, *later], 0)
    lines = path.read_bytes().splitlines()
    lines[2] = lines[2].replace(b"seconds", b"secondt")
    path.write_bytes(b"\n".join([*lines, lines[-1][:20]]))
    assert metrics.truncate(path, 3) == 2
    assert metrics.read(path) == metrics.Log([old, later[0]], 0)


def test_a_config_is_damaged_or_edited(kept):
    path = kept.path / "config.json"
    text = path.read_text()
    assert text.splitlines()[1].startswith('  "checksum": ')
    edited = text.replace('"episodes": 2', '"episodes": 3')
    assert edited != text
    path.write_text(edited)
    with pytest.raises(RunError, match=r"does not match its own checksum: .* its line 'checksum'"):
        muscope.open_run(kept.path)
    path.write_text("".join(x for x in edited.splitlines(True) if '"checksum"' not in x))
    assert muscope.open_run(kept.path).config.evaluate.episodes == 3
    path.write_text(json.dumps(json.loads(text), sort_keys=True))  # Other bytes, equal content.
    assert muscope.open_run(kept.path).config == kept.config
    for data in (b"\xff", b"{", b"[]"):
        path.write_bytes(data)
        with pytest.raises(RunError, match=r"config\.json"):
            muscope.open_run(kept.path)


def test_a_damaged_examination_loses_no_table(files):
    path = files.examined / EXAMINATION
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"digest', b'"digest').replace(b'"agents": {', b'"agentt": {'))
    with pytest.raises(RunError, match=r"examination\.json does not match"):
        muscope.examine(files.run.subject, files.examined, ["figure4"])
    path.write_bytes(whole)
    assert (files.examined / "tables" / "figure4.parquet").exists()


def test_a_header_alone_is_checked(kept):
    path = kept.checkpoint_path(8)
    data = path.read_bytes()
    digest = checkpoint.read_header(path, checkpoint.AGENTS_FORMAT)["digest"].encode()
    other = digest[:-1] + (b"0" if digest[-1:] != b"0" else b"1")
    path.write_bytes(data.replace(digest, other))
    with pytest.raises(CheckpointError, match=r"its header does not match.*'muscope train'"):
        checkpoint.read_header(path, checkpoint.AGENTS_FORMAT)


def test_a_checksum_is_of_what_is_parsed():
    content_ = {"b": 1, "a": [1.0, None, {"x": "ü"}]}
    text = '{"a": [1.0, null, {"x": "\\u00fc"}], "b": 1}'
    assert json_file.checksum(content_) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert json_file.checksum(content_ | {"checksum": "any"}) == json_file.checksum(content_)
    assert json_file.checksum({"b": 1.0}) != json_file.checksum({"b": 1})
