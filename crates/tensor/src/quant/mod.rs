//! What the bits of a stored block mean: decoding to f32 and encoding from it.
