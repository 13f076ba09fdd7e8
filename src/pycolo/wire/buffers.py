"""The buffer type of the packet path."""

from typing import TypeAlias

Buffer: TypeAlias = bytearray | memoryview
"""Writable, contiguous bytes."""
