//! Benchmarks of weft against itself and against real peers
