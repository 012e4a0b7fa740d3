"""Static analysis: which examples of a batch can affect each element of a program?"""

from byol_bnfree.diagnostics.dataflow.interpret import trace_owners
from byol_bnfree.diagnostics.dataflow.trace import Place, Trace

__all__ = ["Place", "Trace", "trace_owners"]
