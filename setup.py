"""Builds the per-packet path: Cython in pure-Python mode, compiled to stable-ABI (abi3) extensions.

Where no C compiler is, the build goes on without (`optional=True`): the same sources run uncompiled, far slower,
and the program says so at start. PYCOLO_PURE=1 asks for that on purpose; PYCOLO_REQUIRE_COMPILED=1 forbids it.
PYCOLO_SANITIZE=1 builds with AddressSanitizer.
"""

import os
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
    "pycolo.compare.stream",
    "pycolo.compare.tcp",
    "pycolo.compare.datagram",
    "pycolo.compare.fragments",
    "pycolo.compare.comparator",
    "pycolo.transport.framefd",
    "pycolo.rewrite.offsets",
    "pycolo.rewrite.copies",
    "pycolo.rewrite.neighbours",
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

    sanitize = ["-fsanitize=address", "-fno-omit-frame-pointer", "-g"] if os.environ.get("PYCOLO_SANITIZE") else []
    required = bool(os.environ.get("PYCOLO_REQUIRE_COMPILED"))
    found = [
        Extension(
            name,
            [f"src/{name.replace('.', '/')}.py"],
            define_macros=[("Py_LIMITED_API", "0x030b0000")],
            py_limited_api=True,
            extra_compile_args=["-O2", "-Wno-unused-function", *sanitize],
            extra_link_args=sanitize,
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


setup(ext_modules=extensions(), options={"bdist_wheel": {"py_limited_api": "cp311"}})
