// Attention on tensor cores over pages of Q4_0.
#include "attention_tiles.cuh"

ATTENTION_TILES(q4_0, CACHE_Q4_0)
