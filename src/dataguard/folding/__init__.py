"""Values that mean the same: a second, coarser form of cells, for finding only and never committed."""
