"""Transforms and factorizations: customary counts, in every number of dims."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from analysis_models import flops_of, recorded, unknown_in
from torch import Tensor

from fmstats.analysis import algebra

REAL = torch.rand(3, 8, 16)
COMPLEX = torch.complex(REAL, REAL)
N = REAL.numel()
TRANSFORMS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "fft": (torch.fft.fft, 5 * N * 4),
    "ifft": (torch.fft.ifft, 5 * N * 4),
    "another dim": (lambda x: torch.fft.fft(x, dim=1), 5 * N * 3),
    "two dims": (torch.fft.fft2, 5 * N * 7),
    "three dims": (torch.fft.fftn, 5 * N * (math.log2(3) + 7)),
}
REAL_TRANSFORMS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "rfft": (torch.fft.rfft, 2.5 * N * 4),
    "fft of real numbers": (torch.fft.fft, 2.5 * N * 4),
    "two dims": (torch.fft.rfft2, 2.5 * N * 7),
    "padded": (lambda x: torch.fft.rfft(x, n=32), 2.5 * 2 * N * 5),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_of_complex_numbers(name: str) -> None:
    function, flops = TRANSFORMS[name]
    assert flops_of(function, COMPLEX) == round(flops)


@pytest.mark.parametrize("name", REAL_TRANSFORMS)
def test_transforms_of_real_numbers_take_half(name: str) -> None:
    function, flops = REAL_TRANSFORMS[name]
    assert flops_of(function, REAL) == round(flops)


def test_a_transform_and_its_inverse_take_as_much() -> None:
    half = torch.fft.rfft(REAL)
    assert flops_of(lambda x: torch.fft.irfft(x, n=16), half) == flops_of(torch.fft.rfft, REAL)
    half = torch.fft.rfft2(REAL)
    inverse = flops_of(lambda x: torch.fft.irfft2(x, s=(8, 16)), half)
    assert inverse == pytest.approx(flops_of(torch.fft.rfft2, REAL))


def test_nothing_to_transform() -> None:
    assert flops_of(torch.fft.fft, torch.rand(3, 1)) == 0


A = torch.rand(2, 6, 6) + 6 * torch.eye(6)
S, R, TALL = A @ A.mT, torch.rand(2, 6, 4), torch.rand(2, 9, 6)
L = torch.linalg.cholesky(S)
LU, PIVOTS = torch.linalg.lu_factor(A)
CUBE, SQUARES = 2 * 6**3, 2 * 6**2 * 4  # of both matrices; with the four columns of R
HOUSEHOLDER = 2 * 2 * 6**2 * (9 - 6 / 3)
FACTORIZATIONS: dict[str, tuple[Callable[[], object], float]] = {
    "Cholesky": (lambda: torch.linalg.cholesky(S), CUBE / 3),
    "LU": (lambda: torch.linalg.lu(A), CUBE * 2 / 3),
    "LU, factors": (lambda: torch.linalg.lu_factor(A), CUBE * 2 / 3),
    "LU, tall": (lambda: torch.linalg.lu_factor(TALL), 2 * 6**2 * (9 - 6 / 3) * 2 / 2),
    "LDL": (lambda: torch.linalg.ldl_factor(S), CUBE / 3),
    "determinant": (lambda: torch.linalg.det(A), CUBE * 2 / 3),
    "its logarithm": (lambda: torch.linalg.slogdet(A), CUBE * 2 / 3),
    "inverse": (lambda: torch.linalg.inv(A), CUBE * 2),
    "inverse by Cholesky": (lambda: torch.cholesky_inverse(L), CUBE * 2 / 3),
    "QR": (lambda: torch.linalg.qr(TALL), 2 * HOUSEHOLDER),
    "QR, R alone": (lambda: torch.linalg.qr(TALL, mode="r"), HOUSEHOLDER),
    "reflections": (lambda: torch.geqrf(TALL), HOUSEHOLDER),
    "their product": (
        lambda: torch.linalg.householder_product(*torch.geqrf(TALL)),
        2 * HOUSEHOLDER,
    ),
    "solve": (lambda: torch.linalg.solve(A, R), CUBE * 2 / 3 + 2 * SQUARES),
    "solve, a vector": (lambda: torch.linalg.solve(A[0], R[0, :, 0]), 2 / 3 * 6**3 + 2 * 6**2),
    "triangular": (lambda: torch.linalg.solve_triangular(L, R, upper=False), SQUARES),
    "triangular, old": (lambda: torch.triangular_solve(R, L, upper=False), SQUARES),
    "triangular, right": (
        *(lambda: torch.linalg.solve_triangular(L, R.mT, upper=False, left=False), SQUARES),
    ),
    "by LU": (lambda: torch.linalg.lu_solve(LU, PIVOTS, R), 2 * SQUARES),
    "by LDL": (
        lambda: torch.linalg.ldl_solve(*torch.linalg.ldl_factor(S), R),
        CUBE / 3 + 2 * SQUARES,
    ),
    "by Cholesky": (lambda: torch.cholesky_solve(R, L), 2 * SQUARES),
}


@pytest.mark.filterwarnings("ignore:torch.triangular_solve is deprecated")
@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_factorizations(name: str) -> None:
    function, flops = FACTORIZATIONS[name]
    assert flops_of(function) == pytest.approx(flops, abs=1)


# Those that other versions and devices run beneath: arguments, FLOPs.
BENEATH: dict[str, tuple[tuple[object, ...], float]] = {
    "cholesky": ((S, False), CUBE / 3),
    "linalg_cholesky_ex": ((S,), CUBE / 3),
    "linalg_ldl_factor_ex": ((S,), CUBE / 3),
    "linalg_lu": ((A,), CUBE * 2 / 3),
    "linalg_lu_factor_ex": ((A,), CUBE * 2 / 3),
    "linalg_inv_ex": ((A,), CUBE * 2),
    "cholesky_inverse": ((L,), CUBE * 2 / 3),
    "linalg_solve_triangular": ((L, R), SQUARES),
    "triangular_solve": ((R, L), SQUARES),
    "cholesky_solve": ((R, L, False), 2 * SQUARES),
    "_cholesky_solve_helper": ((R, L, False), 2 * SQUARES),
    "linalg_lu_solve": ((LU, PIVOTS, R), 2 * SQUARES),
    "linalg_ldl_solve": ((S, PIVOTS, R), 2 * SQUARES),
    "_linalg_solve_ex": ((A, R), CUBE * 2 / 3 + 2 * SQUARES),
    "linalg_qr": ((TALL, "reduced"), 2 * HOUSEHOLDER),
    "geqrf": ((TALL,), HOUSEHOLDER),
    "linalg_householder_product": ((TALL, PIVOTS), HOUSEHOLDER),
}


@pytest.mark.parametrize("name", BENEATH)
@pytest.mark.parametrize("several", [False, True])
def test_formulas_of_what_runs_beneath(name: str, several: bool) -> None:
    args, flops = BENEATH[name]
    out = torch.ones_like(R)
    found = algebra.FACTORIZATIONS[name](args, (out, L) if several or name[0] == "_" else out)
    assert found == pytest.approx(flops, abs=1)


def test_of_complex_matrices_they_take_four_times_as_much() -> None:
    complex_matrix = torch.complex(A, A)
    assert flops_of(torch.linalg.inv, complex_matrix) == 4 * flops_of(torch.linalg.inv, A)


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (torch.linalg.eigvalsh, "_linalg_eigh"),
        (torch.linalg.svd, "_linalg_svd"),
        (torch.linalg.matrix_exp, "linalg_matrix_exp"),
    ],
)
def test_what_iterates_has_no_count(function: Callable[[Tensor], object], operation: str) -> None:
    assert unknown_in(recorded(function, S)) == [operation]
