"""Parser processes: what becomes of a reader that dies, hangs, grows, or sends what it should not."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from vcfbert import kernels
from vcfbert.errors import InputError, MissingExtraError
from vcfbert.genotypes.panel import Sites
from vcfbert.genotypes.parsing import landlock
from vcfbert.genotypes.parsing.confinement import ParserLimits
from vcfbert.genotypes.parsing.messages import (
    ERROR,
    HEAD,
    NUMBER,
    SITES,
    TEXT,
    Array,
    Counts,
    MessageError,
    Numbers,
    Record,
    Texts,
    packed_message,
    read_message,
)
from vcfbert.genotypes.parsing.process import ForkedParsers, Parser, Parsers, ParserServer
from vcfbert.genotypes.parsing.trace import Trace


class Read(NamedTuple):
    number: int
    text: str
    names: tuple[str, ...]
    alleles: npt.NDArray[np.int8]
    flags: npt.NDArray[np.bool_]
    sites: Sites
    numbers: tuple[int, ...]
    counts: dict[str, int]
    error: Any


READ = Record(
    Read,
    number=NUMBER,
    text=TEXT,
    names=Texts("sample", as_tuple=True),
    alleles=Array("int8", "site", "sample", 2),
    flags=Array("bool", "site"),
    sites=SITES,
    numbers=Numbers(),
    counts=Counts(),
    error=ERROR,
)


def value(n_sites: int = 3, n_samples: int = 2) -> Read:
    texts = np.array([f"a\n{i}\u00e4\U0001f9ec" for i in range(n_sites)], dtype=object)
    sites = Sites("20", np.arange(n_sites, dtype=np.int32), texts, texts, texts, np.zeros(n_sites, dtype=bool))
    alleles = np.arange(n_sites * n_samples * 2, dtype=np.int8).reshape(n_sites, n_samples, 2)
    error = MissingExtraError("zarr_missing", "what", where="where", hint=None)
    names = tuple(f"S{i}" for i in range(n_samples))
    return Read(-7, "t\0", names, alleles, np.arange(n_sites) % 2 == 1, sites, (3, 1), {"chr20": 1 << 40}, error)


def received(data: bytes) -> Any:
    place = 0

    def read(n_bytes: int) -> memoryview:
        nonlocal place
        piece = data[place : place + n_bytes]
        place += n_bytes
        if len(piece) < n_bytes:
            raise EOFError
        return memoryview(bytearray(piece))

    return read_message(read, (READ,))


def sent(one: Read) -> bytes:
    return b"".join(bytes(part) for part in packed_message(one, (READ,)))


@pytest.mark.parametrize(("n_sites", "n_samples"), [(3, 2), (0, 2), (1, 0)])
def test_message_arrives_as_it_was_sent(n_sites: int, n_samples: int) -> None:
    before = value(n_sites, n_samples)
    after = received(sent(before))
    assert isinstance(after, Read)
    for name in ("number", "text", "names", "numbers", "counts"):
        assert getattr(after, name) == getattr(before, name)
    for found, expected in ((after.alleles, before.alleles), (after.flags, before.flags)):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(after.sites.ref, before.sites.ref)
    assert after.sites.ref.dtype == object
    assert type(after.error) is MissingExtraError
    assert (after.error.code, after.error.where, after.error.hint) == ("zarr_missing", "where", None)


def changed(edit: Callable[[Any], Any]) -> bytes:
    """A message with another JSON text."""
    _, text, *arrays = packed_message(value(), (READ,))
    body = json.loads(bytes(text))
    edited = json.dumps(edit(body) or body).encode()
    lengths = b"".join(struct.pack("<Q", len(array)) for array in arrays)
    return HEAD.pack(b"vcfp", len(edited), len(arrays)) + lengths + edited + b"".join(map(bytes, arrays))


def put(place: int, new: Any) -> Callable[[Any], None]:
    def edit(body: Any) -> None:
        body[1][place] = new

    return edit


HOSTILE = {
    "other kind": lambda body: [1, body[1]],
    "negative kind": lambda body: [-1, body[1]],
    "kind of another type": lambda body: [True, body[1]],
    "no list": lambda body: {"0": 1},
    "field missing": lambda body: [0, body[1][:-1]],
    "number as text": put(0, "7"),
    "flag as number": put(0, True),
    "null as text": put(1, None),
    "half a surrogate pair": put(1, "\ud800"),
    "names as text": put(2, "AB"),
    "one name too many": put(2, ["A", "B", "C"]),
    "shape of more cells": put(3, [4, 2, 2]),
    "negative shape": put(3, [-3, -2, 2]),
    "shape of other dimensions": put(3, [12]),
    "fixed length changed": put(3, [2, 2, 3]),
    "huge shape": put(3, [1 << 62, 1 << 62, 2]),
    "shape of fractions": put(3, [3.0, 2, 2]),
    "more sites elsewhere": put(4, [2]),
    "text in numbers": put(6, ["x"]),
    "text in counts": put(7, {"20": "x"}),
    "error of another class": put(8, ["SystemExit", "code", "what", None, None]),
    "error without text": put(8, ["InputError", "code", None, None, None]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_message_with_other_values_is_refused(name: str) -> None:
    with pytest.raises(MessageError):
        received(changed(HOSTILE[name]))


def test_message_with_flags_other_than_0_and_1_is_refused() -> None:
    good = sent(value())
    flags = bytes([0, 1, 0])
    assert good.count(flags) >= 1
    with pytest.raises(MessageError):
        received(good.replace(flags, bytes([0, 2, 0])))


@pytest.mark.parametrize(
    "head",
    [
        HEAD.pack(b"XXXX", 10, 0),
        HEAD.pack(b"vcfp", (1 << 32) - 1, 0),
        HEAD.pack(b"vcfp", 10, 65),
        HEAD.pack(b"vcfp", 10, 1) + struct.pack("<Q", 1 << 60),
        HEAD.pack(b"vcfp", 20_000, 0) + b"[" * 20_000,
        HEAD.pack(b"vcfp", 4, 0) + b"\xff\xfe{]",
    ],
)
def test_bytes_that_are_no_message_are_refused(head: bytes) -> None:
    with pytest.raises(MessageError):
        received(head)


def test_any_changed_byte_is_refused_or_gives_values_of_the_same_kind() -> None:
    good, rng = sent(value()), np.random.default_rng(0)
    for _ in range(3000):
        data = bytearray(good)
        for place in rng.integers(0, len(good), rng.integers(1, 4)):
            data[place] = rng.integers(0, 256)
        try:
            found = received(bytes(data))
        except (MessageError, EOFError):
            continue
        assert isinstance(found, Read)
        assert found.alleles.dtype == np.int8
        assert found.alleles.shape == (len(found.sites), len(found.names), 2)


# What follows runs in parser processes.
class Piece(NamedTuple):
    text: str


PIECES = (Record(Piece, text=TEXT),)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def of_state(path: Path, trace: Trace) -> Iterator[Piece]:
    """Tells of the process that runs it."""
    yield Piece(json.dumps({"pid": os.getpid(), "fds": sum(map(is_open, range(256)))}))


def that_dies(path: Path, trace: Trace, how: str) -> Iterator[Piece]:
    yield Piece("first")
    trace.note("20", 1000)
    trace.note("20", 2000)
    if how == "exit":
        os._exit(3)
    if how == "memory":
        hog = [np.ones(10_000_000) for _ in range(100)]
        assert not hog
    if how == "cpu":
        while True:
            pass
    if how == "hang":
        time.sleep(60)
    if how == "junk":
        os.write(4, b"x" * 100)
    if how == "bug":
        raise KeyError(how)
    if how == "write":
        path.write_text("x" * 10)
    os.kill(os.getpid(), getattr(signal, how))


def that_looks_around(path: Path, trace: Trace, other: Path) -> Iterator[Piece]:
    """Tells what it may do."""
    attempts: dict[str, Callable[[], object]] = {
        "read": path.read_bytes,
        "read index": Path(f"{path}.tbi").read_bytes,
        "read another": other.read_bytes,
        "list": lambda: list(path.parent.iterdir()),
        "write": lambda: path.open("r+b"),
        "create": lambda: (path.parent / "new").touch(),
        "remove": path.unlink,
        "kill": lambda: os.kill(os.getppid(), 0),
        "connect": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
        "import": lambda: __import__("wave"),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
            yield Piece(name)
        except PermissionError:
            pass
        except OSError as error:
            yield Piece(f"{name}: {error}")


def that_refuses(path: Path, trace: Trace) -> Iterator[Piece]:
    logging.getLogger("vcfbert.reader").warning("100% odd")
    raise InputError("own_code", "own text", where=str(path), hint="own hint")
    yield  # makes it a generator


DEATHS = {
    "SIGSEGV": "its parser died of SIGSEGV",
    "SIGKILL": "its parser died of SIGKILL",
    "exit": "its parser ended with code 3",
    "memory": "it takes more than 200 MB",
    "cpu": "it takes more than 1 seconds of CPU time",
    "hang": "it takes longer than 4 seconds",
    "junk": "its parser sent",
    "bug": "its parser failed",
    "write": "its parser failed",
}
LIMITS = ParserLimits(memory_bytes=200_000_000, cpu_seconds=1, seconds=4.0)


@pytest.fixture(scope="module", params=["forked", "served"])
def parsers(request: pytest.FixtureRequest) -> Iterator[Parsers]:
    if request.param == "forked":
        yield ForkedParsers(LIMITS)
        return
    server = ParserServer(LIMITS)
    yield server
    server.close()


@pytest.mark.parametrize("how", DEATHS)
def test_dead_parser_makes_the_file_unreadable_behind_its_last_record(
    tmp_path: Path, parsers: Parsers, how: str
) -> None:
    path, found = tmp_path / "t.vcf", []
    with parsers.open(path) as parser:
        with pytest.raises(InputError) as caught:
            found += parser.run(that_dies, how, kinds=PIECES)
        assert caught.value.code == "file_unreadable"
        assert caught.value.where == str(path)
        assert caught.value.what.startswith("the file cannot be read behind record 2 (20:2000): ")
        assert DEATHS[how] in caught.value.what
        assert caught.value.hint
    assert not path.exists() or path.stat().st_size == 0


@pytest.fixture
def landlocked() -> None:
    try:
        if landlock.version() < 6:
            pytest.skip("an older Landlock allows more")
    except OSError:
        pytest.skip("the kernel has no Landlock")


def that_calls_a_kernel(path: Path, trace: Trace) -> Iterator[Piece]:
    yield Piece("compiled" if kernels.are_compiled() else "numpy")


def test_parser_has_the_kernels_that_it_may_not_open(tmp_path: Path, parsers: Parsers) -> None:
    kernels._library.cache_clear()
    if not kernels.are_compiled():
        pytest.skip("no kernels were built")
    kernels._library.cache_clear()
    with parsers.open(tmp_path) as parser:
        (piece,) = parser.run(that_calls_a_kernel, kinds=PIECES)
    assert piece.text == "compiled"


@pytest.mark.usefixtures("landlocked")
def test_parser_reads_its_file_and_its_index_alone(tmp_path: Path, parsers: Parsers) -> None:
    path, other = tmp_path / "t.vcf.gz", tmp_path / "other"
    for one in (path, other, Path(f"{path}.tbi")):
        one.write_bytes(b"content")
    with parsers.open(path) as parser:
        allowed = [piece.text for piece in parser.run(that_looks_around, other, kinds=PIECES)]
    assert allowed == ["read", "read index", "import"]


def state_of(parser: Parser) -> dict[str, int]:
    (piece,) = parser.run(of_state, kinds=PIECES)
    return dict(json.loads(piece.text))


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "did not come"
        time.sleep(0.01)


def test_parser_serves_its_requests_in_one_process_that_keeps_nothing_open(tmp_path: Path, parsers: Parsers) -> None:
    with parsers.open(tmp_path) as parser:
        first, second = state_of(parser), state_of(parser)
    assert first == second
    assert first["pid"] != os.getpid()
    assert first["fds"] == 5  # standard streams, trace, connection
    wait_for(lambda: not is_running(first["pid"]))


def test_error_of_the_work_is_raised_and_the_process_goes_on(tmp_path: Path, parsers: Parsers) -> None:
    with parsers.open(tmp_path / "t.vcf") as parser:
        with pytest.raises(InputError) as caught:
            list(parser.run(that_refuses, kinds=PIECES))
        assert (caught.value.code, caught.value.hint) == ("own_code", "own hint")
        assert state_of(parser)["pid"]


def test_log_of_the_work_is_passed_on(tmp_path: Path, parsers: Parsers, caplog: pytest.LogCaptureFixture) -> None:
    with parsers.open(tmp_path) as parser, suppress(InputError):
        list(parser.run(that_refuses, kinds=PIECES))
    assert [(record.name, record.getMessage()) for record in caplog.records] == [("vcfbert.reader", "100% odd")]


def test_leaving_the_block_ends_a_parser_that_is_busy(tmp_path: Path, parsers: Parsers) -> None:
    with parsers.open(tmp_path) as parser:
        pid = state_of(parser)["pid"]
        pieces = parser.run(that_dies, "hang", kinds=PIECES)
        assert next(pieces).text == "first"
    wait_for(lambda: not is_running(pid))


def test_exception_of_the_check_ends_the_wait(tmp_path: Path, parsers: Parsers) -> None:
    def leave() -> None:
        if time.monotonic() - started > 0.3:
            raise TimeoutError("nobody waits")

    with parsers.open(tmp_path) as parser:
        pid = state_of(parser)["pid"]
        started = time.monotonic()
        with pytest.raises(TimeoutError, match="nobody waits"):
            list(parser.run(that_dies, "hang", kinds=PIECES, cancelled=leave))
        assert time.monotonic() - started < 1.5
    wait_for(lambda: not is_running(pid))


def test_parser_whose_iterator_was_left_reads_no_more(tmp_path: Path, parsers: Parsers) -> None:
    with parsers.open(tmp_path) as parser:
        next(parser.run(that_dies, "hang", kinds=PIECES))
        with pytest.raises(InputError) as caught:
            state_of(parser)
    assert caught.value.code == "file_unreadable"


def test_server_that_was_killed_starts_again(tmp_path: Path) -> None:
    server = ParserServer()
    try:
        with server.open(tmp_path) as parser:
            pid = state_of(parser)["pid"]
            os.kill(parent_of(pid), signal.SIGKILL)
            wait_for(lambda: not is_running(pid))
        with server.open(tmp_path) as parser:
            assert state_of(parser)["pid"] != pid
    finally:
        server.close()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("kind", ["ForkedParsers", "ParserServer"])
def test_killed_process_leaves_no_parser(tmp_path: Path, kind: str) -> None:
    code = f"""
from pathlib import Path
from vcfbert.genotypes.parsing.process import {kind}
from tests.unit.genotypes.test_parsing import PIECES, state_of, that_dies
with {kind}().open(Path("x")) as parser:
    print(state_of(parser)["pid"], flush=True)
    list(parser.run(that_dies, "cpu", kinds=PIECES))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        server = parent_of(pid)
        process.kill()
        process.wait()
    wait_for(lambda: not is_running(pid))
    wait_for(lambda: not is_running(server))


def test_parser_that_htslib_ends_skips_the_exit_handlers_of_its_parent(tmp_path: Path) -> None:
    text = "##fileformat=VCFv4.2\n##contig=<ID=20>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tA\n"
    path = tmp_path / "gt_dropped.vcf"
    path.write_text(text + "20\t5\t.\tA\tC\t.\t.\t.\tDS:GT\t0.5\n")
    code = f"""
import ctypes, os
from pathlib import Path
from vcfbert.errors import InputError
from vcfbert.genotypes.vcf_reader import read_genotypes
libc = ctypes.CDLL(None)
libc.on_exit(ctypes.cast(libc.pause, ctypes.c_void_p), None)  # waits without end
try:
    read_genotypes(Path({str(path)!r}))
except InputError as error:
    print(error.code)
os.sys.stdout.flush()
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.stdout.strip() in ("vcf_invalid", "file_unreadable"), done.stderr
