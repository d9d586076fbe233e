// Attention on tensor cores over pages of F16.
#include "attention_tiles.cuh"

ATTENTION_TILES(f16, CACHE_F16)
