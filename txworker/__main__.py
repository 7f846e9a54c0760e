"""`python -m txworker` is the command line `txworker`."""

import sys

from txworker.cli import main

sys.exit(main())
