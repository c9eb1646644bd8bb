"""What an exported function may be called, so that CasADi takes the name and a C or C++ compiler too."""

from __future__ import annotations

import re
from typing import Any

import casadi as ca

from ..base.checks import Kind

__all__ = ["NAME"]

# Words of C and C++ (code is compiled as either), functions of the C library that compilers know, and the names inside
# the generated functions.
_TAKEN = frozenset(
    re.findall(
        r"\w+",
        """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char8_t char16_t char32_t class compl
    concept const const_cast consteval constexpr constinit continue co_await co_return co_yield decltype default delete
    do double dynamic_cast else enum explicit export extern false float for friend goto if inline int long main mutable
    namespace new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast
    requires restrict return short signed sizeof static static_assert static_cast struct switch template this
    thread_local throw true try typedef typeid typename typeof union unsigned using virtual void volatile wchar_t while
    xor xor_eq
    acos acosh asin asinh atan atan2 atanh cbrt ceil copysign cos cosh drem erf erfc exp exp10 exp2 expm1 fabs fdim
    finite floor fma fmax fmin fmod frexp gamma hypot ilogb isinf isnan j0 j1 jn ldexp lgamma llrint llround log log10
    log1p log2 logb lrint lround modf nan nearbyint nextafter nexttoward pow remainder remquo rint round scalb scalbln
    scalbn signgam significand sin sincos sinh sqrt tan tanh tgamma trunc y0 y1 yn arg res iw w mem x y
    abort abs atexit atof atoi atol calloc div exit fprintf fputc fputs free fwrite getenv isalnum isalpha isdigit
    islower isspace isupper labs llabs malloc memchr memcmp memcpy memmove memset printf putchar puts qsort rand realloc
    scanf snprintf sprintf sscanf strcat strchr strcmp strcpy strlen strncat strncmp strncpy strstr strtod strtol system
    tolower toupper vprintf vsnprintf
    """,
    )
)


def _names_a_function(name: Any) -> bool:
    is_identifier = isinstance(name, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name) is not None
    return is_identifier and name not in _TAKEN and not name.startswith("casadi") and ca.Function.check_name(name)


NAME = Kind(
    "a C identifier of at most 63 letters, digits and single underscores that begins with a letter and is no word of "
    "C, of its library or of CasADi",
    _names_a_function,
)
