"""Error rates for the benchmark scripts: the same scorer that `edge-agent bench accuracy` uses."""

from edge_agent.bench.score import (
    FIT_REFERENCES,
    Errors,
    edit_distance,
    errors,
    measure_of,
    total,
    units,
)

__all__ = ["FIT_REFERENCES", "Errors", "edit_distance", "errors", "measure_of", "total", "units"]
