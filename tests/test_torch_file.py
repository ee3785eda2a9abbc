"""PyTorch's files read without PyTorch: against PyTorch's own, and against hostile ones."""

import subprocess
import sys
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch_files as t

from muscope.errors import CheckpointError
from muscope.foreign import torch_file

GOOD = t.dictionary({"x": t.tensor("0", "f4", 3, 0, (3,), (1,))})
STORAGE = {"0": np.arange(3, dtype="<f4").tobytes()}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.checkpoint"


def test_reads_what_torch_writes(path):
    """Types, views, shared storages, parameters, numbers of NumPy's and containers."""
    torch = pytest.importorskip("torch")
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    module = torch.nn.Linear(3, 2)
    content = {
        "views": [base, base.T, base[1:, ::2], base[:, 0].expand(5, 4), base[2, 3]],
        "types": {
            str(kind): torch.ones(2, dtype=kind)
            for kind in (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool)
        },
        "module": module.state_dict(),
        "parameter": module.weight,
        "empty": torch.zeros(0, 3),
        "ordered": OrderedDict(b=1, a=(2.5, None, "x")),
        "numpy": np.float64(0.1),
        "array": np.arange(6, dtype=np.int32).reshape(2, 3),
    }
    torch.save(content, path)
    read = torch_file.read(path)
    for ours, theirs in zip(read["views"], content["views"], strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())
        assert ours.dtype == np.float32
    assert np.shares_memory(read["views"][0], read["views"][1])
    for kind, theirs in content["types"].items():
        np.testing.assert_array_equal(read["types"][kind].astype(float), theirs.double().numpy())
    assert read["types"]["torch.int64"].dtype == np.int64
    for name, theirs in module.state_dict().items():
        np.testing.assert_array_equal(read["module"][name], theirs.numpy())
    np.testing.assert_array_equal(read["parameter"], module.weight.detach().numpy())
    assert read["empty"].shape == (0, 3)
    assert read["ordered"] == {"b": 1, "a": (2.5, None, "x")}
    assert read["numpy"] == 0.1
    np.testing.assert_array_equal(read["array"], content["array"])


def test_torch_reads_what_the_tests_write(path):
    """So the hostile files below differ from real ones in nothing but their hostility."""
    torch = pytest.importorskip("torch")
    state = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones(())}
    t.write_state(path, state, "model")
    theirs, ours = torch.load(path, weights_only=True)["model"], torch_file.read(path)["model"]
    for name, x in state.items():
        np.testing.assert_array_equal(theirs[name].numpy(), x)
        np.testing.assert_array_equal(ours[name], x)


def test_torch_is_not_imported(path):
    t.write(path, GOOD, STORAGE)
    code = (
        "import sys; from muscope.foreign import load, torch_file; "
        f"torch_file.read({str(path)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_strides_and_order_of_bytes(path):
    x = np.arange(12, dtype=">f8")
    content = t.tensor("k", "f8", 12, 1, (2, 3), (1, 4))
    t.write(path, content, {"k": x.tobytes()}, byteorder=b"big")
    np.testing.assert_array_equal(torch_file.read(path), [[1, 5, 9], [2, 6, 10]])


def hostile(marker):
    command = t.text(f"touch {marker}")
    system = t.call("posix", "system", command)
    return {
        "posix.system": system,
        "os.system": t.call("os", "system", command),
        "builtins.eval": t.call("builtins", "eval", t.text(f"open('{marker}', 'w')")),
        "subprocess.Popen": t.name("subprocess", "Popen") + b"(" + command + b"t\x81",
        "nt.system": b"(S'touch'\nint\nsystem\n",
        "shutil.rmtree": b"(" + t.name("shutil", "rmtree") + t.text(str(marker)) + b"o",
        "importlib.import_module": t.text("importlib") + t.text("import_module") + b"\x93",
        "torch.nn.modules.linear.Linear": t.name("torch.nn.modules.linear", "Linear") + b")R",
        "torch.jit._script.unpackage_script_module": t.call(
            "torch.jit._script", "unpackage_script_module"
        ),
        "collections.OrderedDict.fromkeys": t.name("collections", "OrderedDict.fromkeys"),
    }


@pytest.mark.parametrize("which", hostile(""))
def test_nothing_is_run(path, tmp_path, which):
    marker = tmp_path / "run"
    t.write(path, hostile(marker)[which], STORAGE)
    with pytest.raises(CheckpointError, match="nothing was run") as error:
        torch_file.read(path)
    assert which in str(error.value)
    assert "\n" not in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "target",
    [
        ("torch", "FloatStorage"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("collections", "OrderedDict"),
        ("numpy", "dtype"),
    ],
)
@pytest.mark.parametrize(
    "state",
    [
        t.numbers((3,))[:-1] + t.text(">") + 5 * b"N" + b"t",
        b"N" + t.dictionary({"numpy": b"N", "_function": b"N", "__call__": b"N"}) + b"\x86",
        t.dictionary({"numpy": b"N", "_function": b"N"}),
    ],
)
def test_what_a_file_can_name_it_cannot_change(path, target, state):
    t.write(path, t.name(*target) + state + b"b", STORAGE)
    with pytest.raises(CheckpointError, match="damaged"):
        torch_file.read(path)
    t.write(path, GOOD, STORAGE)
    np.testing.assert_array_equal(torch_file.read(path)["x"], [0, 1, 2])


def _compressed(path):
    t.write(path, GOOD, STORAGE)
    with zipfile.ZipFile(path) as old:
        files = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in files.items():
            new.writestr(name, data)


def _legacy(path):
    torch = pytest.importorskip("torch")
    torch.save({"x": torch.ones(2)}, path, _use_new_zipfile_serialization=False)


def _cut(path):
    t.write(path, GOOD, STORAGE)
    path.write_bytes(path.read_bytes()[:-40])


def _doubling(path):
    """Lists that share their parts: 2^64 elements for whoever follows each."""
    level = b"]"
    for i in range(64):
        level += b"q" + bytes([i]) + b"0](h" + bytes([i]) + b"h" + bytes([i]) + b"e"
    t.write(path, b"](" + level + t.name("os", "system") + b"e", STORAGE)


BAD = {
    "cannot be read: No such file": lambda path: None,
    "is not a checkpoint that torch.save wrote": lambda path: path.write_bytes(b"numbers"),
    "before 1.6; load and save it once": _legacy,
    "no data.pkl": lambda path: zipfile.ZipFile(path, "w").close(),
    "TorchScript": lambda path: t.write(path, GOOD, STORAGE, **{"constants.pkl": b""}),
    "was compressed": _compressed,
    "is damaged .BadZipFile": _cut,
    "is damaged .KeyError": lambda path: t.write(path, GOOD, {}),
    "is damaged .*reaches element 3 of 3": lambda path: t.write(
        path, t.tensor("0", "f4", 3, 1, (3,), (1,)), STORAGE
    ),
    "is damaged .*strides": lambda path: t.write(
        path, t.tensor("0", "f4", 3, 2, (3,), (-1,)), STORAGE
    ),
    "is damaged .UnpicklingError: unexpected MARK": lambda path: t.write(path, b"}(", STORAGE),
    "is damaged .RecursionError": lambda path: t.write(path, b"]q\x00h\x00a", STORAGE),
    "os.system": _doubling,
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_file_gets_one_line(path, message):
    BAD[message](path)
    with pytest.raises(CheckpointError, match=message) as error:
        torch_file.read(path)
    assert "\n" not in str(error.value)


def test_what_a_file_shares_is_not_repeated(path):
    level = b"]"
    for i in range(64):
        level += b"q" + bytes([i]) + b"0](h" + bytes([i]) + b"h" + bytes([i]) + b"e"
    t.write(path, level, STORAGE)
    read = torch_file.read(path)
    for _ in range(64):
        assert read[0] is read[1]
        read = read[0]
