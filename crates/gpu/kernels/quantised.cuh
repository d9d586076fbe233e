// `QUANTISED(type)` for each quantised type that this program is for. Included where a switch has a case
// a type, so without a guard.
#if HAS_FORMAT(2)
QUANTISED(Q4_0)
#endif
#if HAS_FORMAT(8)
QUANTISED(Q8_0)
#endif
#if HAS_FORMAT(10)
QUANTISED(Q2_K)
#endif
#if HAS_FORMAT(11)
QUANTISED(Q3_K)
#endif
#if HAS_FORMAT(12)
QUANTISED(Q4_K)
#endif
#if HAS_FORMAT(13)
QUANTISED(Q5_K)
#endif
#if HAS_FORMAT(14)
QUANTISED(Q6_K)
#endif
#if HAS_FORMAT(16)
QUANTISED(IQ2_XXS)
#endif
#if HAS_FORMAT(17)
QUANTISED(IQ2_XS)
#endif
#if HAS_FORMAT(18)
QUANTISED(IQ3_XXS)
#endif
#if HAS_FORMAT(20)
QUANTISED(IQ4_NL)
#endif
#if HAS_FORMAT(21)
QUANTISED(IQ3_S)
#endif
#if HAS_FORMAT(22)
QUANTISED(IQ2_S)
#endif
#if HAS_FORMAT(23)
QUANTISED(IQ4_XS)
#endif
#if HAS_FORMAT(39)
QUANTISED(MXFP4)
#endif
