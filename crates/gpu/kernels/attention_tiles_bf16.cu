// Attention on tensor cores over pages of BF16.
#include "attention_tiles.cuh"

ATTENTION_TILES(bf16, CACHE_BF16)
