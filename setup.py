"""Builds the per-packet path: Cython in pure-Python mode, compiled to stable-ABI (abi3) extensions.

Where no C compiler is, the build goes on without (`optional=True`): the same sources run uncompiled, far slower,
and the program says so at start. PYCOLO_PURE=1 asks for that on purpose; PYCOLO_REQUIRE_COMPILED=1 forbids it.
PYCOLO_SANITIZE=1 builds with AddressSanitizer, PYCOLO_SYMBOLS=1 with debug information (ten times the size).

And makes of README.md the description that package indexes show.
"""

import os
import re
import tomllib
from pathlib import Path

from setuptools import Extension, setup

COMPILED = [
    "pycolo.wire.octets",
    "pycolo.wire.seq",
    "pycolo.wire.checksum",
    "pycolo.wire.framing",
    "pycolo.wire.packet",
    "pycolo.wire.patch",
    "pycolo.conntrack.jhash",
    "pycolo.conntrack.table",
    "pycolo.storage.arena",
    "pycolo.storage.pool",
    "pycolo.compare.trace",
    "pycolo.compare.held",
    "pycolo.compare.shaper",
    "pycolo.compare.promises",
    "pycolo.compare.history",
    "pycolo.compare.stream",
    "pycolo.compare.onesided",
    "pycolo.compare.tcp",
    "pycolo.compare.clients",
    "pycolo.compare.uso",
    "pycolo.compare.datagram",
    "pycolo.compare.fragments",
    "pycolo.compare.admission",
    "pycolo.compare.ages",
    "pycolo.compare.comparator",
    "pycolo.transport.framefd",
    "pycolo.rewrite.offsets",
    "pycolo.rewrite.copies",
    "pycolo.rewrite.neighbours",
    "pycolo.rewrite.progress",
    "pycolo.rewrite.quotes",
    "pycolo.rewrite.tables",
    "pycolo.rewrite.waiting",
    "pycolo.rewrite.translator",
    "pycolo.rewrite.rewriter",
]


def extensions() -> list[Extension]:
    """The modules of the packet path, as C extensions to build."""
    if os.environ.get("PYCOLO_PURE"):
        return []
    from Cython.Build import cythonize  # noqa: PLC0415 - only a build needs it
    from Cython.Compiler import Options  # noqa: PLC0415

    # Memoryviews are passed by value with room for so many dimensions: with 2 instead of 8 a call copies 64 bytes
    # instead of 208, and the comparator is a third faster. The modules must agree in it, hence their own build folder.
    Options.buffer_max_dims = 2

    sanitize = ["-fsanitize=address", "-fno-omit-frame-pointer"] if os.environ.get("PYCOLO_SANITIZE") else []
    has_symbols = bool(sanitize or os.environ.get("PYCOLO_SYMBOLS"))
    required = bool(os.environ.get("PYCOLO_REQUIRE_COMPILED"))
    found = [
        Extension(
            name,
            [f"src/{name.replace('.', '/')}.py"],
            define_macros=[("Py_LIMITED_API", "0x030b0000")],
            py_limited_api=True,
            extra_compile_args=["-O2", "-Wno-unused-function", "-g" if has_symbols else "-g0", *sanitize],
            extra_link_args=sanitize if has_symbols else ["-Wl,--strip-all"],
            optional=not required,
        )
        for name in COMPILED
        if Path(f"src/{name.replace('.', '/')}.py").exists()
    ]
    built = cythonize(
        found,
        build_dir="build/cython-dims2",
        nthreads=0,
        show_all_warnings=False,
        compiler_directives={
            "language_level": 3,
            "boundscheck": True,  # hostile guests write these bytes
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "embedsignature": False,
        },
    )
    for extension in built:
        extension.optional = not required  # cythonize makes new objects and drops this
    return built


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
        ext_modules=extensions(),
        options={
            "bdist_wheel": {"py_limited_api": "cp311"},
            "build_ext": {"parallel": os.cpu_count() or 1},
        },
    )
