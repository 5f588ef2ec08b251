"""`lwspec schema`: the JSON Schema of specs, for editors."""

from __future__ import annotations

import argparse
import json

from lwspec.engine.spec.load import arm_files
from lwspec.engine.spec.schema import json_schema
from lwspec.kernels.arms import declarations


def main(options: argparse.Namespace) -> int:
    """Print the schema, with the arms of a spec's own where one is named."""
    files = arm_files(options.spec) if options.spec else []
    print(json.dumps(json_schema(declarations(files)), indent=1))
    return 0
