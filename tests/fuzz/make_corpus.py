"""Writes the malformed and the odd GGUF files that the reader is tested and fuzzed with: tests/fuzz/corpus/gguf/*.

Run it in the project's root: python3 tests/fuzz/make_corpus.py. What each file must lead to is in tests/gguf_corpus_test.c.
"""
import os
import struct

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
Q4_0, I8_TENSOR, F64_TENSOR = 2, 24, 28
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "gguf")


def u32(v): return struct.pack("<I", v & 0xFFFFFFFF)
def u64(v): return struct.pack("<Q", v & 0xFFFFFFFFFFFFFFFF)
def string(s): return u64(len(s)) + s
def key(name, kind, value): return string(name) + u32(kind) + value
def array(name, element, n, values): return key(name, ARRAY, u32(element) + u64(n) + values)


def tensor(name, dims, kind=0, offset=0, n_dims=None):
    n_dims = len(dims) if n_dims is None else n_dims
    return string(name) + u32(n_dims) + b"".join(map(u64, dims)) + u32(kind) + u64(offset)


def gguf(keys=(), tensors=(), data=b"", magic=b"GGUF", version=3, n_keys=None, n_tensors=None, alignment=32):
    n_tensors = len(tensors) if n_tensors is None else n_tensors
    n_keys = len(keys) if n_keys is None else n_keys
    head = magic + u32(version) + u64(n_tensors) + u64(n_keys) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + data


ARCH = key(b"general.architecture", STRING, string(b"llama"))
ROW = struct.pack("<8f", *range(8))  # one tensor of 8 f32, 32 bytes

EVERY_TYPE = [
    ARCH, key(b"k.u8", U8, b"\xff"), key(b"k.i8", I8, b"\x80"), key(b"k.u16", U16, b"\xff\xff"),
    key(b"k.i16", I16, b"\x00\x80"), key(b"k.u32", U32, u32(-1)), key(b"k.i32", I32, u32(-5)),
    key(b"k.f32", F32, struct.pack("<f", 0.5)),
    key(b"k.bool", BOOL, b"\1"), key(b"k.u64", U64, u64(-1)), key(b"k.i64", I64, u64(-7)), key(b"k.f64", F64, struct.pack("<d", 0.1)),
    array(b"a.i32", I32, 3, u32(1) + u32(-2) + u32(3)), array(b"a.bool", BOOL, 2, b"\0\1"), array(b"a.none", U8, 0, b""),
    array(b"a.string", STRING, 3, string(b"") + string(b"two") + string(b"\xff\n")), array(b"a.f64", F64, 1, bytes(8)),
]
TWO = [tensor(b"a", [8]), tensor(b"b", [4, 2], 0, 32)]
DATA = ROW + ROW
MANY = (1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1, (1 << 64) // 48 + 1)

FILES = {
    # Accepted.
    "good": gguf(EVERY_TYPE, TWO, DATA),
    "good-version-2": gguf(EVERY_TYPE, TWO, DATA, version=2),
    "good-nothing": gguf(),
    "good-smallest": gguf([key(b"k", U8, b"\1")], alignment=1),
    "good-alignment-8": gguf([key(b"general.alignment", U32, u32(8))], [tensor(b"a", [9], I8_TENSOR), tensor(b"b", [8], 0, 16)],
                             bytes(16) + ROW, alignment=8),
    "good-alignment-1048576": gguf([key(b"general.alignment", U32, u32(1 << 20))]),
    "good-bytes-after": gguf([ARCH], TWO, DATA + b"more"),
    "a05-odd-names": gguf([key(b"a\n\x1b[31m\xff", U8, b"\1"), key(b"v", STRING, string(b"\0\n\x1b\xff"))],
                          [tensor(b"\n\xff", [8])], ROW),
    # A1, A2: short files.
    "a01-cut-in-version": b"GGUF\3",
    "a01-cut-in-counts": gguf()[:20],
    "a01-cut-in-key": gguf([ARCH, key(b"k", STRING, u64(3) + b"ab")], alignment=1),
    "a01-cut-in-data": gguf([ARCH], TWO, DATA[:-1]),
    "a01-cut-before-data": gguf([ARCH], TWO),
    "a02-empty": b"",
    "a02-magic-only": b"GGUF",
    # A3: magic and version.
    "a03-magic": gguf(magic=b"ABCD"),
    "a03-magic-unprintable": gguf(magic=b"\0\n\xff\x1b"),
    "a03-magic-swapped": gguf(magic=b"FUGG"),
    "a03-magic-ggml": gguf(magic=b"lmgg"),
    "a03-magic-ggmf": gguf(magic=b"fmgg"),
    "a03-magic-ggjt": gguf(magic=b"tjgg"),
    "a03-version-0": gguf(version=0),
    "a03-version-1": gguf(version=1),
    "a03-version-4": gguf(version=4),
    "a03-version-max": gguf(version=0xFFFFFFFF),
    "a03-version-big-endian": gguf(version=0x03000000),
    # A4: counts.
    **{"a04-n-tensors-%x" % n: gguf([ARCH], n_tensors=n) for n in MANY},
    **{"a04-n-kv-%x" % n: gguf([ARCH], n_keys=n) for n in MANY},
    "a04-more-than-fit": gguf([ARCH], n_keys=2, n_tensors=1, alignment=1),
    # A5: strings and names of keys.
    "a05-string-one-too-long": gguf([key(b"k", STRING, u64(9) + b"12345678")], alignment=1),
    "a05-string-2-63": gguf([key(b"k", STRING, u64(1 << 63) + b"12345678")]),
    "a05-string-max": gguf([key(b"k", STRING, u64(-1) + b"12345678")]),
    "a05-key-empty": gguf([key(b"", U8, b"\1")]),
    "a05-key-nul": gguf([key(b"a\0b", U8, b"\1")]),
    "a05-key-long": gguf([u64(65536) + b"k" + bytes(20)]),
    # A6: value types and arrays.
    "a06-type-13": gguf([key(b"k", 13, bytes(8))]),
    "a06-type-max": gguf([key(b"k", -1, bytes(8))]),
    "a06-array-of-arrays": gguf([array(b"k", ARRAY, 1, bytes(16))]),
    "a06-element-13": gguf([array(b"k", 13, 1, bytes(16))]),
    "a06-element-255": gguf([array(b"k", 255, 1, bytes(16))]),
    "a06-count-2-61": gguf([array(b"k", U64, 1 << 61, bytes(16))]),
    "a06-count-max": gguf([array(b"k", U8, -1, bytes(16))]),
    "a06-count-2-28": gguf([array(b"k", U8, 1 << 28, bytes(16))]),
    "a06-empty-strings": gguf([array(b"k", STRING, 1 << 30, bytes(64))]),
    "a06-strings-one-too-many": gguf([array(b"k", STRING, 3, bytes(16))], alignment=1),
    "a06-bool-array-2": gguf([array(b"k", BOOL, 3, b"\0\1\2")]),
    "a06-bool-2": gguf([key(b"k", BOOL, b"\2")]),
    # A7
    "a07-duplicate-key": gguf([ARCH, key(b"k", U8, b"\1"), ARCH]),
    # A8: shapes.
    "a08-dim-0": gguf([], [tensor(b"w", [8, 0])], ROW),
    "a08-dim-minus-1": gguf([], [tensor(b"w", [-1])], ROW),
    "a08-dim-2-62": gguf([], [tensor(b"w", [1 << 62])], ROW),
    "a08-dim-2-40": gguf([], [tensor(b"w", [1 << 40])], ROW),
    "a08-dim-2-40-and-1": gguf([], [tensor(b"w", [(1 << 40) + 1])], ROW),
    "a08-product": gguf([], [tensor(b"w", [1 << 32, 1 << 31])], ROW),
    "a08-bytes": gguf([], [tensor(b"w", [1 << 31, 1 << 31], F64_TENSOR)], ROW),
    "a08-n-dims-0": gguf([], [tensor(b"w", [8], n_dims=0)], ROW),
    "a08-n-dims-5": gguf([], [tensor(b"w", [8, 1, 1, 1, 1])], ROW),
    "a08-n-dims-max": gguf([], [tensor(b"w", [8], n_dims=-1)], ROW),
    "a08-no-whole-block": gguf([], [tensor(b"w", [33], Q4_0)], ROW),
    # A9: types; the file stays open to inspection.
    **{"a09-type-%d" % (t & 0xFFFFFFFF):
       gguf([], [tensor(b"a", [8]), tensor(b"w", [8], t, 32), tensor(b"z", [8], 0, 64)], ROW * 3)
       for t in (4, 5, 36, 38, 43, 44, 255, -1)},
    "a09-order-after-unknown": gguf([], [tensor(b"a", [8]), tensor(b"w", [8], 255, 32), tensor(b"z", [8], 0, 32)], ROW * 3),
    "a09-unknown-at-end": gguf([], [tensor(b"a", [8]), tensor(b"w", [8], 255, 32)], ROW),
    # A10: places.
    "a10-unaligned": gguf([], [tensor(b"a", [8]), tensor(b"b", [8], 0, 33)], DATA),
    "a10-first-not-0": gguf([], [tensor(b"a", [8], 0, 32)], DATA),
    "a10-overlap": gguf([], [tensor(b"a", [16]), tensor(b"b", [8], 0, 32)], DATA),
    "a10-gap": gguf([], [tensor(b"a", [8]), tensor(b"b", [8], 0, 64)], DATA + ROW),
    "a10-gap-2-40": gguf([], [tensor(b"a", [8]), tensor(b"b", [8], 0, 1 << 40)], DATA),
    "a10-offset-wraps": gguf([], [tensor(b"a", [8]), tensor(b"b", [8], 0, -32)], DATA),
    "a10-unknown-wraps": gguf([], [tensor(b"a", [8], 255), tensor(b"b", [8], 0, -32)], DATA),
    "a10-reordered": gguf([], [tensor(b"b", [8], 0, 32), tensor(b"a", [8])], DATA),
    # A11: names of tensors.
    "a11-duplicate": gguf([], [tensor(b"a", [8]), tensor(b"a", [8], 0, 32)], DATA),
    "a11-name-empty": gguf([], [tensor(b"", [8])], ROW),
    "a11-name-64": gguf([], [tensor(b"n" * 64, [8])], ROW),
    "a11-name-nul": gguf([], [tensor(b"a\0b", [8])], ROW),
    "good-name-63": gguf([], [tensor(b"n" * 63, [8])], ROW),
    # A12: alignment.
    **{"a12-alignment-%d" % a: gguf([key(b"general.alignment", U32, u32(a))], TWO, DATA)
       for a in (0, 3, 4, 12, 1 << 21, 1 << 31)},
    "a12-alignment-i32": gguf([key(b"general.alignment", I32, u32(32))], TWO, DATA),
    "a12-alignment-u64": gguf([key(b"general.alignment", U64, u64(1 << 32))], TWO, DATA),
    "a12-alignment-string": gguf([key(b"general.alignment", STRING, string(b"32"))], TWO, DATA),
    "a12-alignment-array": gguf([array(b"general.alignment", U32, 1, u32(32))], TWO, DATA),
}

os.makedirs(FOLDER, exist_ok=True)
for old in os.listdir(FOLDER):
    os.remove(os.path.join(FOLDER, old))
for name, content in FILES.items():
    with open(os.path.join(FOLDER, name), "wb") as f:
        f.write(content)
print("%d files, %d bytes" % (len(FILES), sum(map(len, FILES.values()))))
