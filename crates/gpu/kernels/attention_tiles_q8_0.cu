// Attention on tensor cores over pages of Q8_0.
#include "attention_tiles.cuh"

ATTENTION_TILES(q8_0, CACHE_Q8_0)
