"""The commands that the laboratory adds to `colo`; `pyproject.toml` names them as entry points."""
