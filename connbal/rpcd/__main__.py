"""``python3 -m connbal.rpcd OBJECT METHOD``."""

import sys

from connbal.rpcd.run import main

if __name__ == "__main__":
    main(sys.argv[1:])
