"""rb.special: special functions under the names of PyTorch's `torch.special` and SciPy's."""

from __future__ import annotations

from rabbet.tensor.lift import functions

__all__ = [
    *("digamma", "entr", "erf", "erfc", "erfcx", "erfinv", "exp2", "expit", "expm1", "gammainc"),
    *("gammaincc", "gammaln", "i0", "i0e", "i1", "i1e", "log1p", "log_ndtr", "log_softmax"),
    *("logit", "logsumexp", "multigammaln", "ndtr", "ndtri", "polygamma", "psi", "round", "sinc"),
    *("softmax", "xlog1py", "xlogy", "zeta"),
    *(f"chebyshev_polynomial_{kind}" for kind in "tuvw"),
    *("hermite_polynomial_h", "hermite_polynomial_he"),
    *("laguerre_polynomial_l", "legendre_polynomial_p"),
]
_SAME = {"expit": "sigmoid", "gammaln": "lgamma", "psi": "digamma"}
globals().update({name: functions[_SAME.get(name, name)] for name in __all__})
