"""Put the work without science in the place of the kernels' own, in every process of a test."""

import importlib.abc
import importlib.util
import os
import sys
from pathlib import Path


class Instead(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "lwspec.kernels.work":
            return None
        file = Path(__file__).with_name("fake_work.py")
        return importlib.util.spec_from_file_location(name, file)


if "LWSPEC_TEST_CONTROL" in os.environ:
    sys.meta_path.insert(0, Instead())
