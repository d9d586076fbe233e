// What products of several weights with the same input take.
#pragma once
#include "dot.cuh"

#define MOST_PARTS 4

// One of the weights, and its output [rows, weight.rows].
struct LinearPart {
    Matrix weight;
    float* out;
};

struct LinearArgs {
    Inputs in;
    int rows;
    int parts;
    LinearPart part[MOST_PARTS];
    int first_block[MOST_PARTS + 1];  // of each part
};
