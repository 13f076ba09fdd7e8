"""The type of what the whole packet path takes."""

from typing import TypeAlias

Buffer: TypeAlias = bytearray | memoryview
"""Writable, contiguous bytes."""
