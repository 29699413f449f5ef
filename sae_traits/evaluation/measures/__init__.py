"""Measures of benchmarks: plain functions on arrays, one file per family; docs/evaluation_measures.md lists them."""
