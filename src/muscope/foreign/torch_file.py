"""PyTorch's checkpoint files without PyTorch, and without executing anything in them.

``torch.save`` writes a zip: ``NAME/data.pkl`` is a pickle, ``NAME/data/KEY`` are the storages of
the tensors, raw numbers (serialisation format of ``torch.serialization`` since PyTorch 1.6).  A
pickle is a program: it may call anything that can be imported.  Here it can reach only the names
in :data:`_NAMES`, all of them stand-ins of this module without state that it could change;
whatever else a file asks for ends the reading with one line that names it.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, NamedTuple

import ml_dtypes
import numpy as np

from muscope.errors import CheckpointError

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of PyTorch before 1.6 begin: the pickled magic number of their format."""

_STORAGES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}


def read(path: str | Path) -> Any:
    """What ``torch.save`` wrote, with NumPy arrays in place of tensors.

    Dictionaries of any kind become ``dict``; arrays are read-only views of the file's bytes, with
    the tensors' strides.

    Raises:
        CheckpointError: no such file, not a zip of PyTorch's, damaged, or a pickle that asks for
            anything but tensors, containers and numbers; one line that names the mend.

    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        return _content(data, path)
    except CheckpointError:
        raise
    except Exception as error:  # A damaged pickle can raise anything.
        raise CheckpointError(
            f"{path} is damaged ({type(error).__name__}: {error}); copy it again from its source."
        ) from None


def _content(data: bytes, path: Path) -> Any:
    if data.startswith(_LEGACY):
        raise CheckpointError(
            f"{path} has the format of PyTorch before 1.6; load and save it once with a newer one."
        )
    if not data.startswith(b"PK"):
        raise CheckpointError(
            f"{path} is not a checkpoint that torch.save wrote (no zip); give such a file."
        )
    with zipfile.ZipFile(BytesIO(data)) as archive:
        files = {name: archive.getinfo(name) for name in archive.namelist()}
        pickles = [name for name in files if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise CheckpointError(f"{path} is a zip, but not of torch.save: no data.pkl in it.")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in files:
            raise CheckpointError(
                f"{path} is a TorchScript archive; save the module's state_dict() instead."
            )
        if any(info.compress_type != zipfile.ZIP_STORED for info in files.values()):
            raise CheckpointError(f"{path} was compressed; torch.save never does, save it again.")
        order = archive.read(f"{folder}byteorder") if f"{folder}byteorder" in files else b"little"
        storages = _Storages(archive, f"{folder}data/", ">" if order == b"big" else "<")
        content = _Unpickler(archive.read(pickles[0]), path, storages).load()
        return _plain(content)


class _Storages:
    """The raw numbers of a file by key, each read once."""

    def __init__(self, archive: zipfile.ZipFile, folder: str, order: Literal["<", ">"]):
        self._archive, self._folder, self._order = archive, folder, order
        self._read: dict[str, bytes] = {}

    def __call__(self, identity: Any) -> np.ndarray:
        """The storage that a pickle names: ('storage', type, key, device, number of elements)."""
        kind, storage, key, _, _ = identity
        if kind != "storage" or not isinstance(storage, _StorageType):
            raise pickle.UnpicklingError(f"unknown persistent object {identity!r}")
        if key not in self._read:
            self._read[key] = self._archive.read(self._folder + key)
        return np.frombuffer(self._read[key], storage.numpy.newbyteorder(self._order))


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, path: Path, storages: _Storages):
        super().__init__(BytesIO(data), encoding="utf-8")
        self._path, self._storages = path, storages

    def find_class(self, module: str, name: str) -> Any:
        stand_in = _NAMES.get(f"{module}.{name}")
        if stand_in is None:
            raise CheckpointError(
                f"{self._path} asks for {module}.{name}, which is neither a tensor nor a plain "
                "container; nothing was run. Save only the state_dict() and numbers beside it."
            )
        return stand_in

    def persistent_load(self, identity: Any) -> np.ndarray:
        return self._storages(identity)


class _Callable:
    """A function that a pickle may call; it has no attributes that a pickle could set."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]):
        object.__setattr__(self, "_function", function)

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"an attempt to set '{name}' of a function")


class _StorageType(NamedTuple):
    """A type of PyTorch's storages."""

    numpy: np.dtype


class _Dict(dict):
    """An OrderedDict or Counter; the attributes that PyTorch hangs on one are dropped."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


class _Dtype:
    """One of NumPy's types; of the state that follows only the order of bytes counts."""

    __slots__ = ("numpy",)

    def __init__(self, numpy: np.dtype):
        self.numpy = numpy

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.numpy = self.numpy.newbyteorder(state[1])


class _Array:
    """A NumPy array, filled by the state that follows it."""

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array = np.zeros(())

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, by_columns, data = state
        flat = np.frombuffer(data, dtype.numpy)
        self.array = flat.reshape(shape, order="F" if by_columns else "C")


def _tensor(
    storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
) -> np.ndarray:
    """The tensor of a shape that lies in a storage; offset and strides count elements."""
    numbers = (offset, *shape, *strides)
    if len(shape) != len(strides) or any(type(n) is not int or n < 0 for n in numbers):
        raise pickle.UnpicklingError(f"a tensor of shape {shape} and strides {strides}")
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if last >= storage.size:
        raise pickle.UnpicklingError(f"a tensor reaches element {last} of {storage.size}")
    return np.lib.stride_tricks.as_strided(
        storage[offset:],
        shape,
        [stride * storage.itemsize for stride in strides],
        writeable=False,
    )


def _dtype(code: str, *_: Any) -> _Dtype:
    dtype = np.dtype(code)
    if dtype.kind not in "biufc":
        raise pickle.UnpicklingError(f"NumPy's type {code!r}, which is not of numbers")
    return _Dtype(dtype)


def _bytes(text: str, encoding: str) -> bytes:
    """How older pickles write bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_NAMES: Mapping[str, Any] = {
    "torch._utils._rebuild_tensor_v2": _Callable(_tensor),
    "torch._utils._rebuild_parameter": _Callable(lambda data, *_: data),
    **{f"torch.{name}": _StorageType(np.dtype(kind)) for name, kind in _STORAGES.items()},
    "collections.OrderedDict": _Callable(_Dict),
    "collections.Counter": _Callable(_Dict),
    "_codecs.encode": _Callable(_bytes),
    "numpy.dtype": _Callable(_dtype),
    "numpy.ndarray": _Callable(_Array),
    **{
        f"numpy.{core}.multiarray.{name}": stand_in
        for core in ("core", "_core")
        for name, stand_in in {
            "scalar": _Callable(lambda dtype, data: np.frombuffer(data, dtype.numpy)[0]),
            "_reconstruct": _Callable(lambda *_: _Array()),
        }.items()
    },
}
"""Everything that a pickle may name, and what it gets."""


def _plain(content: Any, done: dict[int, Any] | None = None) -> Any:
    """Without stand-ins; what a file shares between places is converted once."""
    done = {} if done is None else done
    if id(content) not in done:
        done[id(content)] = _converted(content, done)
    return done[id(content)]


def _converted(content: Any, done: dict[int, Any]) -> Any:
    if isinstance(content, dict):
        return {_plain(key, done): _plain(value, done) for key, value in content.items()}
    if isinstance(content, list):
        return [_plain(value, done) for value in content]
    if isinstance(content, tuple):
        return tuple(_plain(value, done) for value in content)
    return content.array if isinstance(content, _Array) else content
