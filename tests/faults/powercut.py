"""What a disk holds after a power cut, made from a trace of system calls.

Of a file's bytes only those stay that were there when the file was last synced. Of names (make, rename, delete) in a
strict folder only those stay that were there when their folder was last synced, as POSIX has it, and of later ones as
many of the first as a random source says, without one none. Elsewhere, which is the engine's own folder, a journalled
file system is assumed: names stay in order up to the last sync of anything. Bytes written through a memory map are not
seen, so they are lost. kill -9 keeps the page cache and shows nothing of this.
"""

import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

CALLS = (
    "openat,open,creat,close,write,pwrite64,writev,pwritev,lseek,ftruncate,truncate,fallocate,fsync,fdatasync,sync,syncfs,"
    "sync_file_range,msync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat"
)
WORDS = ["strace", "-f", "-y", "-xx", "-s", "16777216", "--seccomp-bpf", "-e", f"trace={CALLS}", "-e", "signal=none"]
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_HEX = re.compile(r"\\x([0-9a-f]{2})")
_ACCEPTED = re.compile(rb'(?:^|\r\n\r\n)\{.*"accepted": ?(\d+)')  # the body, alone or behind its head
_PATH = re.compile(r"(AT_FDCWD|\d+)<([^>]*)>")


def _bytes(hexed: str) -> bytes:
    return bytes.fromhex("".join(_HEX.findall(hexed)))


def _text(path: str) -> str:
    return _bytes(path).decode() if path.startswith("\\x") else path


def calls(trace: Path) -> Iterator[tuple[str, str, int]]:
    """(name, arguments, result) in the order in which calls ended; a sync that had not ended is none."""
    begun: dict[str, str] = {}
    with trace.open() as lines:
        for line in lines:
            thread, _, rest = line.rstrip("\n").partition(" ")
            rest = rest.lstrip()
            if rest.endswith("<unfinished ...>"):
                begun[thread] = rest.removesuffix("<unfinished ...>")
                continue
            if rest.startswith("<... "):
                rest = begun.pop(thread, "") + rest.partition("resumed>")[2]
            name, _, tail = rest.partition("(")
            arguments, separator, result = tail.rpartition(") = ")
            if not separator:
                arguments, separator, result = tail.rpartition(" = ")
            number = re.match(r"-?\d+", result)
            if separator and number and int(number.group()) >= 0:
                yield name, arguments.rstrip(") "), int(number.group())


def answered(name: str, arguments: str) -> int:
    """How many events this call tells a sender of as accepted; 0 where it is no such answer."""
    handle = _PATH.match(arguments)
    if name not in ("write", "writev") or handle is None or not _text(handle[2]).startswith("socket:"):
        return 0
    found = _ACCEPTED.search(b"".join(_bytes(one) for one in _STRING.findall(arguments)))
    return int(found[1]) if found else 0


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


class Inode:
    def __init__(self) -> None:
        self.bytes, self.durable = bytearray(), b""
        self.folder = False


class Disk:
    """The files below one folder, as the programs saw them and as they stand on the platter."""

    def __init__(self, root: Path, strict: Path) -> None:
        self._root, self._strict = str(root), str(strict)
        self._now: dict[str, Inode] = {}
        self._names: dict[str, Inode] = {}  # those on the platter, by the journal
        self._entries: dict[str, dict[str, Inode]] = defaultdict(dict)  # those on the platter, by strict folder
        self._later: dict[str, list[tuple[str, Inode | None]]] = defaultdict(list)  # changes since, None: gone
        self._places: dict[tuple[str, str], int] = defaultdict(int)
        self.synced: set[str] = set()

    def _ours(self, path: str) -> bool:
        return path == self._root or path.startswith(self._root + "/")

    def _sync(self, path: str) -> None:
        inode = self._now.get(path)
        if inode is not None:
            inode.durable = bytes(inode.bytes)
        self._names = dict(self._now)
        self.synced.add(path)
        self._later.pop(path, None)
        self._entries[path] = {one: inode for one, inode in self._now.items() if _folder(one) == path}

    def _at(self, path: str) -> Inode:
        if path not in self._now:
            self._name(path, Inode())
        return self._now[path]

    def _name(self, path: str, inode: Inode | None) -> Inode | None:
        """Gives a name to a file, or takes one away; what it stood for."""
        before = self._now.pop(path, None)
        if inode is not None:
            self._now[path] = inode
        if inode is not before:
            self._later[_folder(path)].append((path, inode))
        return before

    def _put(self, path: str, place: int, data: bytes) -> None:
        content = self._at(path).bytes
        content.extend(bytes(max(0, place - len(content))))
        content[place : place + len(data)] = data

    def apply(self, name: str, arguments: str, result: int) -> None:
        where = _PATH.findall(arguments)
        told = [] if "write" in name else [_bytes(one).decode(errors="replace") for one in _STRING.findall(arguments)]
        paths = []
        for number, one in enumerate(told):
            folder = _text(where[min(number, len(where) - 1)][1]) if where else ""
            paths.append(one if one.startswith("/") else f"{folder}/{one}")
        opened = _text(where[0][1]) if where else ""
        handle = (where[0][0], opened) if where else ("", "")
        if name in ("openat", "open", "creat") and paths and self._ours(paths[0]):
            self._open(paths[0], arguments, result)
        elif name.startswith("rename") and len(paths) == 2 and self._ours(paths[1]):
            self._rename(*paths)
        elif name in ("unlink", "unlinkat", "rmdir") and paths:
            self._name(paths[0], None)
        elif name in ("mkdir", "mkdirat") and paths and self._ours(paths[0]):
            self._at(paths[0]).folder = True
        elif name in ("link", "linkat") and len(paths) == 2 and self._ours(paths[1]) and paths[0] in self._now:
            self._name(paths[1], self._now[paths[0]])
        elif name == "truncate" and paths and paths[0] in self._now:
            self._resize(paths[0], int(arguments.rpartition(", ")[2]))
        elif where and self._ours(opened) and not opened.endswith("(deleted)"):
            self._change(name, arguments, result, handle)

    def _open(self, path: str, arguments: str, result: int) -> None:
        if "O_DIRECTORY" in arguments:
            return
        if "O_CREAT" in arguments or path in self._now:
            inode = self._at(path)
            if "O_TRUNC" in arguments:
                inode.bytes.clear()
            self._places[str(result), path] = len(inode.bytes) if "O_APPEND" in arguments else 0

    def _rename(self, old: str, new: str) -> None:
        for path in [p for p in self._now if p == new or p.startswith(new + "/")]:
            self._name(path, None)
        for path in [p for p in self._now if p == old or p.startswith(old + "/")]:
            self._name(new + path[len(old) :], self._name(path, None))
        for fd, path in [key for key in self._places if key[1] == old or key[1].startswith(old + "/")]:
            self._places[fd, new + path[len(old) :]] = self._places.pop((fd, path))

    def _change(self, name: str, arguments: str, result: int, handle: tuple[str, str]) -> None:
        path = handle[1]
        numbers = re.findall(r", (\d+)(?=,|$|\))", arguments + ")")
        if name in ("fsync", "fdatasync"):
            self._sync(path)
        elif name in ("write", "writev", "pwrite64", "pwritev"):
            data = b"".join(_bytes(one) for one in _STRING.findall(arguments))[:result]
            if name.startswith("p"):
                self._put(path, int(arguments.rpartition(", ")[2]), data)
            else:
                self._put(path, self._places[handle], data)
                self._places[handle] += result
        elif name == "lseek":
            self._places[handle] = result
        elif name == "ftruncate" and numbers:
            self._resize(path, int(numbers[-1]))
        elif name == "fallocate" and len(numbers) >= 2:
            self._allocate(path, arguments, int(numbers[-2]), int(numbers[-1]))

    def _resize(self, path: str, size: int) -> None:
        content = self._at(path).bytes
        del content[size:]
        content.extend(bytes(size - len(content)))

    def _allocate(self, path: str, mode: str, place: int, length: int) -> None:
        """Makes a file longer, or a hole in it. Asserts that no other kind is asked for."""
        content = self._at(path).bytes
        if "PUNCH_HOLE" in mode or "ZERO_RANGE" in mode:
            end = min(place + length, len(content))
            content[place:end] = bytes(max(0, end - place))
        elif "KEEP_SIZE" not in mode:
            assert "FALLOC" not in mode, mode
            content.extend(bytes(max(0, place + length - len(content))))

    def seen(self, part: str) -> int:
        """How many bytes the programs wrote to files whose path has this in it."""
        return sum(len(inode.bytes) for path, inode in self._now.items() if part in path)

    def _kept(self, source: random.Random | None) -> dict[str, Inode]:
        """The names that the next boot finds: a strict one only where all folders above it are found too."""
        kept = {path: inode for path, inode in self._names.items() if not self._is_strict(path)}
        waiting = [_folder(self._strict)]
        while waiting:
            folder = waiting.pop()
            entries, later = dict(self._entries[folder]), self._later[folder]
            for path, inode in later[: source.randint(0, len(later)) if source else 0]:
                entries.pop(path, None)
                if inode is not None:
                    entries[path] = inode
            strict = {path: inode for path, inode in entries.items() if self._is_strict(path)}
            kept |= strict
            waiting += [path for path, inode in strict.items() if inode.folder]
        return kept

    def _is_strict(self, path: str) -> bool:
        return path == self._strict or path.startswith(self._strict + "/")

    def write_to(self, folder: Path, source: random.Random | None) -> None:
        """Makes the folder that the next boot finds."""
        for path, inode in sorted(self._kept(source).items()):
            target = folder / path[len(self._root) + 1 :] if path != self._root else folder
            if inode.folder:
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(inode.durable)
