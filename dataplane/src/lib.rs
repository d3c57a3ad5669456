//! Worker loop, packet path, stages, counters and the underlay's slow path
