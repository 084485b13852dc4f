"""The query room imported a second time with one of its texts replaced, beside the true one."""

import importlib
import importlib.abc
import importlib.util
import sys
from pathlib import Path
from typing import Any, NamedTuple

from twintrack.query.question import Question

ROOT = Path(__file__).parents[2] / "src" / "twintrack" / "query"
_ROOM = "twintrack.query"


class Mutant(NamedTuple):
    """A text of a file below `query/` that stands there once, and what stands there instead."""

    kind: str
    file: str
    old: str
    new: str


class _Loader(importlib.abc.SourceLoader):
    def __init__(self, path: Path, mutant: Mutant) -> None:
        self._path, self._mutant = path, mutant

    def get_filename(self, fullname: str) -> str:
        return str(self._path)

    def get_data(self, path: str | bytes) -> bytes:
        if str(path) != str(self._path):
            raise OSError("compiled files of the true room are not for this one")
        text = self._path.read_text()
        if self._path == ROOT / self._mutant.file:
            found = text.count(self._mutant.old)
            assert found == 1, f"{self._mutant.file} holds {self._mutant.old!r} {found} times: mend the mutant"
            text = text.replace(self._mutant.old, self._mutant.new)
        return text.encode()


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if not fullname.startswith(_ROOM):
            return None
        place = ROOT.joinpath(*fullname.split(".")[2:])
        package = place / "__init__.py"
        file = package if package.exists() else place.with_suffix(".py")
        folders = [str(place)] if package.exists() else None
        loader = _Loader(file, self._mutant)
        return importlib.util.spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=folders)


def kinds_with(mutant: Mutant) -> dict[str, type[Question]]:
    """The kinds of a room that holds the mutant. The true room is as it was afterwards."""
    true = {name: module for name, module in sys.modules.items() if name.startswith(_ROOM)}
    finder = _Finder(mutant)
    for name in true:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        found: dict[str, type[Question]] = importlib.import_module(f"{_ROOM}.kinds").KINDS
        return found
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.startswith(_ROOM)]:
            del sys.modules[name]
        sys.modules.update(true)
        sys.modules["twintrack"].query = true[_ROOM]  # type: ignore[attr-defined]
