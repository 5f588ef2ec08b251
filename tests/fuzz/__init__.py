"""A coverage-guided fuzzer (atheris) over all that lwspec reads: `make fuzz`.

Each target of `targets.py` is one thing that lwspec reads, and runs in a process of its own. A case
may end well or in a refusal with a text; a traceback, a case that takes longer than `guard.CASE_S`,
a process or a connection, or a write outside the target's own folder is a failure.
"""
