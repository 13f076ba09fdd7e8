"""Builds the packet path, `pycolo.core`: Cython, compiled as one extension for Python's stable ABI (abi3).

PYCOLO_SANITIZE=1 builds with AddressSanitizer and UBSan, PYCOLO_SYMBOLS=1 with debug information (ten times the size).

And makes of README.md the description that package indexes show.
"""

import os
import re
import tomllib
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORE = "src/pycolo/core.pyx"
SOURCES = {".h", ".pxd", ".pxi", ".pyx"}
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,  # columns are indexed by rows and records of our own; bytes are checked by the parser
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "auto_pickle": False,
    "embedsignature": False,
}


def core() -> Extension:
    """The packet path: one module, so that the C compiler can inline all of it."""
    sanitize = ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"] if os.environ.get("PYCOLO_SANITIZE") else []
    has_symbols = bool(sanitize or os.environ.get("PYCOLO_SYMBOLS"))
    return Extension(
        "pycolo.core",
        [CORE],
        depends=[str(path) for path in sorted(Path("src/pycolo").rglob("*.[hp]*")) if path.suffix in SOURCES],
        include_dirs=["src/pycolo"],
        define_macros=[("Py_LIMITED_API", "0x030b0000"), ("CYTHON_INLINE", "inline __attribute__((always_inline))")],
        py_limited_api=True,
        extra_compile_args=["-O2", "-Wno-unused-function", "-g" if has_symbols else "-g0", *sanitize],
        extra_link_args=sanitize if has_symbols else ["-Wl,--strip-all"],
    )


class Translated(build_ext):
    """The compiler's step after Cython's. Who asks for metadata or a source distribution needs neither."""

    def build_extension(self, ext: Extension) -> None:
        """Cython's C, as far as it is not there and up to date, then the compiler."""
        from Cython.Build import cythonize  # noqa: PLC0415 - only a build needs it
        from Cython.Compiler import Options  # noqa: PLC0415

        # Where Python hands a buffer over, a view of it has room for so many dimensions: 1 is all that is used.
        Options.buffer_max_dims = 2
        (translated,) = cythonize(
            [Extension(ext.name, [CORE])],
            build_dir="build/cython",
            include_path=["src/pycolo"],
            compiler_directives=DIRECTIVES,
        )
        ext.sources = translated.sources
        super().build_extension(ext)


def description(readme: str, source: str, version: str) -> str:
    """README.md for readers outside the repository: each relative link becomes one to this version at `source`.

    Pictures become PNG files, which lie beside the SVG: not every index shows SVG, and none a relative link.
    """

    def absolute(target: str, *, is_picture: bool) -> str:
        if re.match(r"[a-z]+:", target):
            return target
        if is_picture:
            return f"{source}/raw/v{version}/{re.sub('[.]svg$', '.png', target)}"
        return f"{source}/blob/v{version}/{'README.md' if target.startswith('#') else ''}{target}"

    def picture(found: re.Match[str]) -> str:
        return f"{found[1]}{absolute(found[2], is_picture=True)}"

    def link(found: re.Match[str]) -> str:
        return f"{found[1]}{absolute(found[2], is_picture=False)}"

    for pattern, replaced in (
        (r"(!\[[^\]]*\]\()([^)\s]+)", picture),
        (r"(<(?:img|source)\b[^>]*? (?:src|srcset)=\")([^\"]+)", picture),
        (r"(\]\()([^)\s]+)", link),
        (r"(<a\b[^>]*? href=\")([^\"]+)", link),
    ):
        readme = re.sub(pattern, replaced, readme)
    return readme


def metadata() -> dict[str, str]:
    """What pyproject.toml leaves to this file."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    readme = Path("README.md").read_text(encoding="utf-8")
    return {
        "long_description": description(readme, project["urls"]["Source"], project["version"]),
        "long_description_content_type": "text/markdown",
    }


if __name__ == "__main__":
    setup(
        **metadata(),
        ext_modules=[core()],
        cmdclass={"build_ext": Translated},
        options={"bdist_wheel": {"py_limited_api": "cp311"}},
    )
