"""`python -m lwspec` is the command line."""

from lwspec.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
