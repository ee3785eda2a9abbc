"""Checkpoints in PyTorch's format, written byte by byte: no PyTorch, and anything in the pickle."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np

STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage"}


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + b"(" + b"".join(arguments) + b"tR"


def dictionary(items: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def tensor(key: str, code: str, size: int, offset: int, shape: tuple, strides: tuple) -> bytes:
    storage = text("storage") + name("torch", STORAGES[code]) + text(key) + text("cpu")
    return call(
        "torch._utils",
        "_rebuild_tensor_v2",
        b"(" + storage + number(size) + b"tQ",
        number(offset),
        numbers(shape),
        numbers(strides),
        b"\x89",
        call("collections", "OrderedDict"),
    )


def write(path: Path, content: bytes, storages: dict[str, bytes], **more: bytes) -> Path:
    """A checkpoint of a pickle's body and raw storages; ``more`` are further files in it."""
    files = {"data.pkl": b"\x80\x02" + content + b".", "version": b"3\n", **more}
    with zipfile.ZipFile(path, "w") as archive:
        for file, data in {**files, **{f"data/{k}": v for k, v in storages.items()}}.items():
            archive.writestr(f"archive/{file}", data)
    return path


def write_state(path: Path, state: dict[str, np.ndarray], key: str = "") -> Path:
    """A checkpoint that holds a state dict, bare or under ``key``."""
    storages = {str(i): x.astype("<f4").tobytes() for i, x in enumerate(state.values())}
    tensors = {}
    for i, (label, x) in enumerate(state.items()):
        strides = tuple(stride // 4 for stride in np.zeros(x.shape, "f4").strides)
        tensors[label] = tensor(str(i), "f4", x.size, 0, x.shape, strides)
    content = dictionary(tensors)
    return write(path, dictionary({key: content, "step": number(7)}) if key else content, storages)
