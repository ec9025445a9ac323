"""Where to fuse, measured: early, mid, late and deliberative at equal parameters and equal tuning."""
