"""Why a bar of the target list is missed: what is reached, what the machine allows, what stands between.

Shown on the page beside the figure, and only while that bar is missed. Keys: (target, peer).
Times are of one core of the machine named on the page; "computed" means added up from parts measured alone.
"""

from __future__ import annotations

REASONS: dict[tuple[int, str], str] = {
    (2, "datasketch"): (
        "100 elements, 256 values: 0.60 us a set where 0.42 is asked. Computed: two rounds 0.11 us; 117 values stay "
        "empty, and 8 vectors x 100 products take 0.24 us; finding and filling them takes the rest."
    ),
    (2, "rensa R-MinHash"): (
        "10 elements, 256 values: 0.122 us a set where 0.087 is asked. Computed limit 0.075 us: 16 vectors x 10 "
        "products 0.05 us, 1 KiB written once 0.025 us. The first call, in new memory, takes 1.3 us."
    ),
    (3, "datasketch"): (
        "300 elements: 0.47 us a set where 0.44 is asked; both rounds alone take 0.32 us (1.06 ns an element)."
    ),
    (3, "rensa R-MinHash"): (
        "1,000 elements, 128 values: 0.60 us a set where 0.53 is asked. The first round is at its limit, 0.52 ns an "
        "element: load, mask, shift, load, compare, select, store, of which the last may wait for the one before. "
        "Two or four slot arrays side by side gained 7 to 15 % and cost as much to join at this size."
    ),
    (4, "rensa R-MinHash"): (
        "The elements are read at 80 to 90 % of the speed at which the memory can be read at all; five times the "
        "peer would be 1.5 times that speed."
    ),
    (5, "daft minhash"): (
        "1.2 GB/s where 1.4 is asked; 5.8 ns a word. Computed: word borders 1.7, word hash 2.4, shingle hash 0.6, "
        "sketch 0.6 ns. Between: 18 border positions a block of 64 bytes are written one by one (2.6 cycles each)."
    ),
    (7, "SHA-1 per call (datasketch's default)"): "2.9 ns a string; see polars.",
    (7, "polars Series.hash"): (
        "2.9 ns a word, 2.3 of it in the kernel (8.3 cycles, 37 instructions: two loads, two masks, two 128-bit "
        "products). Twice the peer needs 1.2 ns; 21 bytes a word at 28 GB/s allow 0.75. The peer is at 2.3 or at "
        "6.3 ns, by whether its result lies in new memory, so this ratio moves between 0.5 and 2.5."
    ),
    (
        7,
        "polars-hash gxhash64",
    ): "The peer uses AES instructions, which LLVM does not offer portably; see polars.",
    (7, "xxhash xxh3_64 per call"): "2.9 ns a string against 42; see polars.",
    (9, "polars hash_rows"): (
        "Flights: 10 ms. Computed: strings 4, reading and widening 14 columns 3, absorbing 1.8, opening them 0.6 ms. "
        "The strings are at the limit of their hash; one kernel over raw addresses might save 1 ms, and the bounds "
        "checks with it."
    ),
    (
        9,
        "pandas hash_pandas_object",
    ): "As polars; on a table without narrow and missing numbers it is 14 times.",
    (9, "duckdb hash"): "As polars; on a table without narrow and missing numbers it is 5 times.",
    (11, "FastSketchLSH"): (
        "Ours compares every candidate with its signature (8 cache lines of 512 bytes), the peer gives candidates "
        "only. 0.35 to 0.5 us a query; the limit of 16 directory probes and a verification is about 0.3 us."
    ),
    (16, "datasketch LSHEnsemble"): (
        "Build: 19 to 21 ns a posting where 13 to 18 are asked: bucketing 13, parting by key 5.5, counting 1.2 ns. "
        "With hashes sampled 1 in 16 the build is some 800 times the peer's."
    ),
    (16, "SetSimilaritySearch"): (
        "26 ns a looked-up element and 8 ns to drop repeats; 100 times needs 9 ns. The peer fixes the threshold when "
        "it builds and looks a prefix up; ours counts exactly, at any threshold, in both directions."
    ),
}
