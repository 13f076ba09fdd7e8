"""`python -m pycolo` is `colo`."""

from pycolo.cli import main

main()
