// A batch's spans as kernels see them: one for each sequence, see `tensor::Span`.
#pragma once
#include "compat.cuh"

struct Span {
    int first_row;
    int rows;
    int past;
    int first_page;  // of the span, in the batch's list of pages
    u64 state;
    int replay;
    int hold;
};
