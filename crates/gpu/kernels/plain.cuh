// `PLAIN(type)` for each type of plain floats that this program is for, as quantised.cuh.
#if HAS_FORMAT(0)
PLAIN(F32)
#endif
#if HAS_FORMAT(1)
PLAIN(F16)
#endif
#if HAS_FORMAT(30)
PLAIN(BF16)
#endif
