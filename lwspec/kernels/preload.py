"""What processes are forked from: the libraries of nearly every job, and the code's own evidence.

The evidence is taken here since this is the code that the forked processes run, whatever is edited
while they do.
"""

from lwspec.engine.runs import evidence
from lwspec.errors import CodeError
from lwspec.kernels.everything import import_everything

try:
    import sklearn.linear_model  # noqa: F401
    import sklearn.model_selection  # noqa: F401
    import torch
    import transformers.models.auto.modeling_auto  # noqa: F401

    import_everything()
except (OSError, CodeError) as error:  # a shared object is missing: the first job reports it
    raise ImportError(str(error)) from error

torch.use_deterministic_algorithms(True)  # this imports a second's worth of torch
evidence.source_files()
evidence.packages()
evidence.git_state(evidence.PACKAGE.parent)
