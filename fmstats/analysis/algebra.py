"""Count the FLOPs of fast Fourier transforms and direct factorizations, as is customary.

Transforms: 5 n log2 n of n complex numbers, half of that of real ones (the measure of benchFFT).
Factorizations: the leading terms of LAPACK Working Note 41 (Anderson and Dongarra 1990), appendix
C. Eigenvalues, singular values and matrix functions iterate: they have no count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

Formula = Callable[[Sequence[Any], Any], int]


def _transform(args: Sequence[Any], out: Any) -> int:
    x, dims = args[:2]
    if x.is_complex() and not out.is_complex():  # back to real numbers, of which there are more
        x = out
    length = math.prod(int(x.shape[d]) for d in dims)
    whole = 5 * int(x.numel()) * math.log2(max(length, 1))
    return round(whole if args[0].is_complex() and out.is_complex() else whole / 2)


def _of_matrices(count: Callable[[int, int], float]) -> Formula:
    """Make a formula that adds up `count(m, n)` over the matrices of the first argument."""

    def factorize(args: Sequence[Any], out: Any) -> int:
        m, n = map(int, args[0].shape[-2:])
        return round(_many(args[0]) * count(m, n))

    return factorize


def _many(x: Tensor) -> int:
    return math.prod(map(int, x.shape[:-2]))


def _lu(m: int, n: int) -> float:
    k = min(m, n)
    return 2 * (m * n * k - (m + n) * k**2 / 2 + k**3 / 3)


def _reflections(m: int, n: int) -> float:
    k = min(m, n)
    return 2 * k**2 * (max(m, n) - k / 3)


def _orthogonal(args: Sequence[Any], out: Any) -> int:
    """Count the reflections, and the same number again if Q is requested."""
    m, n = map(int, args[0].shape[-2:])
    twice = len(args) < 2 or args[1] != "r"
    return round(_many(args[0]) * _reflections(m, n) * (2 if twice else 1))


def _solve(each: int, factor: int) -> Formula:
    """Make a formula for solving with a factor (n, n): `each` n^2 FLOPs per result column."""

    def solve(args: Sequence[Any], out: Any) -> int:
        n, first = int(args[factor].shape[-1]), out[0] if isinstance(out, tuple | list) else out
        return each * int(first.numel()) * n

    return solve


def _general_solve(args: Sequence[Any], out: Any) -> int:
    n = int(args[0].shape[-1])
    return round(_many(args[0]) * _lu(n, n)) + 2 * int(out[0].numel()) * n


_LU, _CHOLESKY = _of_matrices(_lu), _of_matrices(lambda m, n: n**3 / 3)

FACTORIZATIONS: dict[str, Formula] = {
    "linalg_cholesky_ex": _CHOLESKY,
    "cholesky": _CHOLESKY,
    "linalg_ldl_factor_ex": _CHOLESKY,
    "linalg_lu_factor_ex": _LU,
    "linalg_lu": _LU,
    "_linalg_det": _LU,
    "_linalg_slogdet": _LU,
    "linalg_inv_ex": _of_matrices(lambda m, n: 2 * n**3),
    "cholesky_inverse": _of_matrices(lambda m, n: 2 * n**3 / 3),
    "geqrf": _of_matrices(_reflections),
    "linalg_householder_product": _of_matrices(_reflections),
    "linalg_qr": _orthogonal,
    "linalg_solve_triangular": _solve(1, 0),
    "triangular_solve": _solve(1, 1),
    "_cholesky_solve_helper": _solve(2, 1),
    "cholesky_solve": _solve(2, 1),
    "linalg_lu_solve": _solve(2, 0),
    "linalg_ldl_solve": _solve(2, 0),
    "_linalg_solve_ex": _general_solve,
}
TRANSFORMS: dict[str, Formula] = dict.fromkeys(("_fft_c2c", "_fft_r2c", "_fft_c2r"), _transform)
