// `PLAIN(type)` for each type of plain floats that this program is for, as quantised.cuh. `SPLIT(type)` for those of
// 16 bits, where it is something else.
#ifndef SPLIT
#define SPLIT(ID) PLAIN(ID)
#endif
#if HAS_FORMAT(0)
PLAIN(F32)
#endif
#if HAS_FORMAT(1)
SPLIT(F16)
#endif
#if HAS_FORMAT(30)
SPLIT(BF16)
#endif
