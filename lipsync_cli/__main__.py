"""`python -m lipsync_cli` and `accelerate launch -m lipsync_cli`."""

import sys

from lipsync_cli.cli.app import main

sys.exit(main())
