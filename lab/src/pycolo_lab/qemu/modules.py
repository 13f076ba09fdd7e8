"""Kernel modules out of an unpacked kernel package, with those that they depend on, in the order to load them.

Which of them a release builds as modules, and where it keeps them, differs: Debian 12 has `virtio_pci` as a module
below /lib, Debian 13 has it in the kernel, and the others compressed below /usr/lib. Each module names what it
depends on in its own `.modinfo` section, so that no index (modules.dep is made when a kernel is installed) is needed.
"""

import re
from pathlib import Path
from typing import Final

from pycolo_lab.errors import LabError

_DEPENDS: Final = re.compile(rb"(?<!\w)depends=([^\0]*)\0")


def modules_of(kernel: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Name -> content of the modules to load for `wanted`, in order; nothing for what is built in.

    Raises `LabError` when the package has one of them neither way.
    """
    roots = [root for top in ("lib", "usr/lib") for root in (kernel / top / "modules").glob("*")]
    if not roots:
        raise LabError(f"Debian's kernel package {kernel.name} holds no modules; remove build/lab and try again")
    tree = _Tree(roots[0])
    for name in wanted:
        tree.load(name)
    return tree.loaded


class _Tree:
    def __init__(self, root: Path) -> None:
        self.loaded: dict[str, bytes] = {}
        self._release = root.name
        self._paths = {_name(path): path for path in root.rglob("*.ko*")}
        index = root / "modules.builtin"
        lines = index.read_text().split() if index.is_file() else []
        self._built_in = {_name(Path(line)) for line in lines}

    def load(self, name: str) -> None:
        """What it depends on first. The kernel has no circles there."""
        if name in self.loaded or name in self._built_in:
            return
        if name not in self._paths:
            raise LabError(f"Debian's kernel {self._release} has no module {name}")
        content = _content(self._paths[name])
        depends = _DEPENDS.search(content)
        for needed in depends[1].decode().split(",") if depends and depends[1] else []:
            self.load(needed)
        self.loaded[name] = content


def _name(path: Path) -> str:
    # A module's own name has underscores where its file may have hyphens.
    return path.name.partition(".")[0].replace("-", "_")


def _content(path: Path) -> bytes:
    if path.suffix != ".xz":
        return path.read_bytes()
    import lzma  # noqa: PLC0415 - some Pythons are built without it, and Debian 12 does not compress its modules

    return lzma.decompress(path.read_bytes())
