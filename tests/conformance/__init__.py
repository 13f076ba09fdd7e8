"""QEMU itself as the oracle: the same command lines and the same frames, and what comes out."""
