"""`python -m lwspec` is the command line."""

from lwspec.cli import main

raise SystemExit(main())
