"""What `timo.geostat` promises, measured beside gstools, PyKrige and scikit-learn in one run.

    python benchmarks/geostat.py                      # everything, some ten minutes
    python benchmarks/geostat.py variograms kriging   # some of it

Needs `pip install "timo[geostat,sample]" pykrige`. Truths are simulated with gstools; seeds are fixed.
"""

import argparse
import sys
from importlib import import_module

PARTS = ("variograms", "kriging", "fields", "gaps", "regions")
WORDS = {True: "yes", False: "NO", None: "-"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=" ".join(PARTS))
    chosen = parser.parse_args().parts or PARTS
    kept = True
    print("| section | must | reached | met |\n|---|---|---|---|")
    for part in chosen:
        for row in import_module(f"geostat_parts.{part}").measure():
            print(f"| {row.section} | {row.must} | {row.reached} | {WORDS[row.met]} |", flush=True)
            kept &= row.met is None or row.met
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
